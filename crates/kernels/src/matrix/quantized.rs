//! Matrices of integer codes: blocks of 32 columns, multiplied with activations quantized to bytes.
//!
//! An element is summed block by block: the exact integer sum of products, then `fma(w_scale * x_scale, sum, element)`,
//! then, for types with a minimum, `fma(minimum, x_scale * x_sum, element)`.
//!
//! Packed, a super-block (256 columns for K-quants, 32 otherwise) of eight rows is its scales ([`Scales`]), then its
//! blocks, each its own scales and the codes ([`Codes`]). Codes lie in vectors of eight rows by four columns: vectors 0
//! to 3 hold columns 0 to 15 and vectors 4 to 7 hold columns 16 to 31; narrow codes put vector `v` into the low and
//! vector `v + 4` into the high nibbles, with further bits in planes behind them.

use super::{Matrix, Output};
use crate::activations::BlockSums;
use crate::block::{Block, decode_block};
use crate::simd::{Simd, simd_fn};
use crate::{Activations, Isa, WeightType};

/// Tokens that a tile covers: unpacked weights serve all of them. Up to six fit into one; of more, fours keep their sums
/// in registers.
const TILE_TOKENS: usize = 4;

/// How the integer codes of a block lie and how wide they are.
trait Codes {
    /// Bytes of 8 rows by 32 columns.
    const BYTES: usize;
    /// Subtracted from every code.
    const OFFSET: i32;
    /// Calls of [`Simd::dot`] whose sums fit 16 bits; 0 for signed bytes.
    const SUMMANDS: usize;
    fn pack(blocks: &[Block], packed: &mut [u8]);
    fn code(packed: &[u8], row: usize, column: usize) -> u8;
    fn load<S: Simd>(simd: S, packed: &[u8]) -> [S::Bytes; 8];
}

/// Which scales there are and how they lie.
trait Scales {
    /// Blocks of 32 columns to a super-block.
    const BLOCKS: usize;
    /// Bytes at the head of a super-block.
    const SUPER_BYTES: usize;
    /// Bytes at the head of a block.
    const BLOCK_BYTES: usize;
    /// Whether a minimum is added.
    const MINIMUM: bool;
    /// Whether the halves of a block have integer scales of their own.
    const HALVES: bool;
    fn pack_super(blocks: &[Block], packed: &mut [u8]);
    fn pack_block(blocks: &[Block], packed: &mut [u8]);
    /// Fills in everything but the codes.
    fn unpack(super_bytes: &[u8], block_bytes: &[u8], row: usize) -> Block;
    fn load<S: Simd>(simd: S, super_bytes: &[u8], block_bytes: &[u8]) -> BlockScales<S>;
}

struct BlockScales<S: Simd> {
    scale: S::F32,
    minimum: S::F32,
    halves: [S::I32; 2],
}

/// Byte of row `row` in a vector of eight rows by four columns, and the vector, of column `column`.
const fn place(row: usize, column: usize) -> (usize, usize) {
    (column / 4, row * 4 + column % 4)
}

#[inline(always)]
fn vector(packed: &[u8], index: usize) -> &[u8; 32] {
    const ZEROS: &[u8; 32] = &[0; 32];
    packed[32 * index..].first_chunk().unwrap_or(ZEROS)
}

/// Signed bytes.
struct Signed;

impl Codes for Signed {
    const BYTES: usize = 256;
    const OFFSET: i32 = 0;
    const SUMMANDS: usize = 0;

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            for (column, &code) in block.codes.iter().enumerate() {
                let (vector, byte) = place(row, column);
                packed[32 * vector + byte] = code;
            }
        }
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        let (vector, byte) = place(row, column);
        packed[32 * vector + byte]
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8]) -> [S::Bytes; 8] {
        let mut vectors = [simd.load_bytes(&[0; 32]); 8];
        for v in 0..8 {
            vectors[v] = simd.load_bytes(vector(packed, v));
        }
        vectors
    }
}

/// Unsigned codes of `4 + PLANE_BITS` bits.
struct Unsigned<const PLANE_BITS: usize, const OFFSET: i32>;

impl<const PLANE_BITS: usize, const OFFSET: i32> Codes for Unsigned<PLANE_BITS, OFFSET> {
    const BYTES: usize = 128 + 32 * PLANE_BITS;
    const OFFSET: i32 = OFFSET;
    // 2 * 127 * 31 * 4 = 31,496 and 2 * 127 * 63 * 2 = 32,004 are below 2^15.
    const SUMMANDS: usize = if PLANE_BITS == 2 { 2 } else { 4 };

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        let (nibbles, planes) = packed.split_at_mut(128);
        for (row, block) in blocks.iter().enumerate() {
            for (column, &code) in block.codes.iter().enumerate() {
                let (vector, byte) = place(row, column);
                nibbles[32 * (vector % 4) + byte] |= (code & 15) << (4 * (vector / 4));
                if PLANE_BITS > 0 {
                    let bit = vector * PLANE_BITS;
                    planes[32 * (bit / 8) + byte] |= (code >> 4) << (bit % 8);
                }
            }
        }
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        let (nibbles, planes) = packed.split_at(128);
        let (vector, byte) = place(row, column);
        let low = nibbles[32 * (vector % 4) + byte] >> (4 * (vector / 4)) & 15;
        if PLANE_BITS == 0 {
            return low;
        }
        let bit = vector * PLANE_BITS;
        low | (planes[32 * (bit / 8) + byte] >> (bit % 8) & ((1 << PLANE_BITS) - 1)) << 4
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8]) -> [S::Bytes; 8] {
        let mut vectors = [simd.load_bytes(&[0; 32]); 8];
        for v in 0..8 {
            let nibbles = simd.load_bytes(vector(packed, v % 4));
            vectors[v] = if v < 4 { simd.low_nibbles(nibbles) } else { simd.high_nibbles(nibbles) };
            if PLANE_BITS > 0 {
                let bit = v * PLANE_BITS;
                let plane = simd.load_bytes(vector(packed, 4 + bit / 8));
                vectors[v] = simd.or(vectors[v], simd.bits_to_4(plane, (bit % 8) as u32, PLANE_BITS as u32));
            }
        }
        vectors
    }
}

fn put_halves(packed: &mut [u8], halves: impl Iterator<Item = u16>) {
    for (packed, half) in packed.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
        *packed = half.to_le_bytes();
    }
}

fn half_at(packed: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([packed[2 * index], packed[2 * index + 1]])
}

#[inline(always)]
fn load_halves<S: Simd>(simd: S, packed: &[u8]) -> S::F32 {
    match packed.first_chunk() {
        Some(halves) => simd.load_f16(halves),
        None => simd.splat(0.0),
    }
}

#[inline(always)]
fn eight(packed: &[u8]) -> [u8; 8] {
    packed.first_chunk().copied().unwrap_or_default()
}

/// A half per block, and another for the minimum if `MINIMUM`.
struct Simple<const MINIMUM: bool>;

impl<const MINIMUM: bool> Scales for Simple<MINIMUM> {
    const BLOCKS: usize = 1;
    const SUPER_BYTES: usize = 0;
    const BLOCK_BYTES: usize = if MINIMUM { 32 } else { 16 };
    const MINIMUM: bool = MINIMUM;
    const HALVES: bool = false;

    fn pack_super(_: &[Block], _: &mut [u8]) {}

    fn pack_block(blocks: &[Block], packed: &mut [u8]) {
        put_halves(&mut packed[..16], blocks.iter().map(|block| block.d));
        put_halves(&mut packed[16..], blocks.iter().map(|block| block.d_min));
    }

    fn unpack(_: &[u8], block_bytes: &[u8], row: usize) -> Block {
        let d_min = if MINIMUM { half_at(block_bytes, 8 + row) } else { 0 };
        Block { codes: [0; 32], d: half_at(block_bytes, row), d_min, sub_scales: [1, 1], sub_min: 1 }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, _: &[u8], block_bytes: &[u8]) -> BlockScales<S> {
        let minimum = if MINIMUM { load_halves(simd, &block_bytes[16..]) } else { simd.splat(0.0) };
        BlockScales { scale: load_halves(simd, block_bytes), minimum, halves: [simd.i32_splat(1); 2] }
    }
}

/// `Q4_K` and `Q5_K`: two halves per super-block, two 6-bit factors of them per block.
struct SuperMinimum;

impl Scales for SuperMinimum {
    const BLOCKS: usize = 8;
    const SUPER_BYTES: usize = 32;
    const BLOCK_BYTES: usize = 16;
    const MINIMUM: bool = true;
    const HALVES: bool = false;

    fn pack_super(blocks: &[Block], packed: &mut [u8]) {
        put_halves(&mut packed[..16], blocks.iter().map(|block| block.d));
        put_halves(&mut packed[16..], blocks.iter().map(|block| block.d_min));
    }

    fn pack_block(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            packed[row] = block.sub_scales[0] as u8;
            packed[8 + row] = block.sub_min;
        }
    }

    fn unpack(super_bytes: &[u8], block_bytes: &[u8], row: usize) -> Block {
        Block {
            codes: [0; 32],
            d: half_at(super_bytes, row),
            d_min: half_at(super_bytes, 8 + row),
            sub_scales: [block_bytes[row] as i8; 2],
            sub_min: block_bytes[8 + row],
        }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, super_bytes: &[u8], block_bytes: &[u8]) -> BlockScales<S> {
        let d = load_halves(simd, super_bytes);
        let d_min = load_halves(simd, &super_bytes[16..]);
        let minimum = simd.mul(d_min, simd.load_u8(eight(&block_bytes[8..])));
        BlockScales {
            scale: simd.mul(d, simd.load_u8(eight(block_bytes))),
            // K-quants subtract the minimum; a negation is exact.
            minimum: simd.mul(minimum, simd.splat(-1.0)),
            halves: [simd.i32_splat(1); 2],
        }
    }
}

/// `Q6_K`: a half per super-block, two 8-bit factors of it per block, one for each half.
struct SuperHalves;

impl Scales for SuperHalves {
    const BLOCKS: usize = 8;
    const SUPER_BYTES: usize = 16;
    const BLOCK_BYTES: usize = 16;
    const MINIMUM: bool = false;
    const HALVES: bool = true;

    fn pack_super(blocks: &[Block], packed: &mut [u8]) {
        put_halves(packed, blocks.iter().map(|block| block.d));
    }

    fn pack_block(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            packed[row] = block.sub_scales[0] as u8;
            packed[8 + row] = block.sub_scales[1] as u8;
        }
    }

    fn unpack(super_bytes: &[u8], block_bytes: &[u8], row: usize) -> Block {
        let sub_scales = [block_bytes[row] as i8, block_bytes[8 + row] as i8];
        Block { codes: [0; 32], d: half_at(super_bytes, row), d_min: 0, sub_scales, sub_min: 0 }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, super_bytes: &[u8], block_bytes: &[u8]) -> BlockScales<S> {
        BlockScales {
            scale: load_halves(simd, super_bytes),
            minimum: simd.splat(0.0),
            halves: [simd.i32_load_i8(eight(block_bytes)), simd.i32_load_i8(eight(&block_bytes[8..]))],
        }
    }
}

/// Evaluates `$body` with `$C` and `$K` bound to the codes and scales of a quantized weight type.
macro_rules! with_layout {
    ($weight_type:expr, $C:ident, $K:ident => $body:expr) => {
        match $weight_type {
            WeightType::Q8_0 => with_layout!(@ $C = Signed, $K = Simple<false>, $body),
            WeightType::Q4_0 => with_layout!(@ $C = Unsigned<0, 8>, $K = Simple<false>, $body),
            WeightType::Q4_1 => with_layout!(@ $C = Unsigned<0, 0>, $K = Simple<true>, $body),
            WeightType::Q5_0 => with_layout!(@ $C = Unsigned<1, 16>, $K = Simple<false>, $body),
            WeightType::Q5_1 => with_layout!(@ $C = Unsigned<1, 0>, $K = Simple<true>, $body),
            WeightType::Q4K => with_layout!(@ $C = Unsigned<0, 0>, $K = SuperMinimum, $body),
            WeightType::Q5K => with_layout!(@ $C = Unsigned<1, 0>, $K = SuperMinimum, $body),
            WeightType::Q6K => with_layout!(@ $C = Unsigned<2, 32>, $K = SuperHalves, $body),
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("not quantized"),
        }
    };
    (@ $C:ident = $codes:ty, $K:ident = $scales:ty, $body:expr) => {{
        type $C = $codes;
        type $K = $scales;
        $body
    }};
}

const fn block_bytes<C: Codes, K: Scales>() -> usize {
    K::BLOCK_BYTES + C::BYTES
}

const fn super_block_bytes<C: Codes, K: Scales>() -> usize {
    K::SUPER_BYTES + K::BLOCKS * block_bytes::<C, K>()
}

pub(super) fn group_bytes(weight_type: WeightType, columns: usize) -> usize {
    with_layout!(weight_type, C, K => columns / (32 * K::BLOCKS) * super_block_bytes::<C, K>())
}

/// Packs up to eight rows of a file.
pub(super) fn pack_group(weight_type: WeightType, rows: &[&[u8]], packed: &mut [u8]) {
    with_layout!(weight_type, C, K => {
        for (index, packed) in packed.chunks_exact_mut(super_block_bytes::<C, K>()).enumerate() {
            // blocks[b]: block b of every row.
            let mut blocks: Vec<Vec<Block>> = vec![Vec::new(); K::BLOCKS];
            for row in rows {
                let size = weight_type.block_bytes();
                let mut b = 0;
                decode_block(weight_type, &row[index * size..][..size], |block| {
                    blocks[b].push(block);
                    b += 1;
                });
            }
            let (super_bytes, packed) = packed.split_at_mut(K::SUPER_BYTES);
            K::pack_super(&blocks[0], super_bytes);
            for (blocks, packed) in blocks.iter().zip(packed.chunks_exact_mut(block_bytes::<C, K>())) {
                let (scales, codes) = packed.split_at_mut(K::BLOCK_BYTES);
                K::pack_block(blocks, scales);
                C::pack(blocks, codes);
            }
        }
    });
}

/// Dequantizes row `row` of a packed group.
pub(super) fn unpack_row(weight_type: WeightType, group: &[u8], row: usize, out: &mut [f32]) {
    with_layout!(weight_type, C, K => {
        let super_blocks = group.chunks_exact(super_block_bytes::<C, K>());
        for (packed, out) in super_blocks.zip(out.chunks_exact_mut(32 * K::BLOCKS)) {
            let (super_bytes, packed) = packed.split_at(K::SUPER_BYTES);
            for (packed, out) in packed.chunks_exact(block_bytes::<C, K>()).zip(out.as_chunks_mut::<32>().0) {
                let (scales, codes) = packed.split_at(K::BLOCK_BYTES);
                let mut block = K::unpack(super_bytes, scales, row);
                block.codes = std::array::from_fn(|column| C::code(codes, row, column));
                *out = block.dequantize(weight_type);
            }
        }
    });
}

/// Computes the groups of `out`.
pub(super) fn multiply(isa: Isa, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
    with_layout!(matrix.weight_type, C, K => multiply_layout::<C, K>(isa, matrix, x, out));
}

simd_fn! {
    fn multiply_layout<C: Codes, K: Scales>(simd, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
        for group in out.groups.clone() {
            let mut token = 0;
            while token < x.tokens() {
                token += match x.tokens() - token {
                    1 => tile::<S, C, K, 1>(simd, matrix, x, group, token, out),
                    2 => tile::<S, C, K, 2>(simd, matrix, x, group, token, out),
                    3 => tile::<S, C, K, 3>(simd, matrix, x, group, token, out),
                    4 => tile::<S, C, K, 4>(simd, matrix, x, group, token, out),
                    5 => tile::<S, C, K, 5>(simd, matrix, x, group, token, out),
                    6 => tile::<S, C, K, 6>(simd, matrix, x, group, token, out),
                    _ => tile::<S, C, K, TILE_TOKENS>(simd, matrix, x, group, token, out),
                };
            }
        }
    }
}

/// A group of rows times `T` tokens; returns `T`.
#[inline(always)]
fn tile<S: Simd, C: Codes, K: Scales, const T: usize>(
    simd: S,
    matrix: &Matrix,
    x: &Activations,
    group: usize,
    token: usize,
    out: &mut Output<'_>,
) -> usize {
    let rows: [(&[[i8; 32]], &[BlockSums]); T] = std::array::from_fn(|t| x.quantized_row(token + t));
    let mut elements = [simd.splat(0.0); T];
    let mut b = 0;
    for packed in matrix.group(group).chunks_exact(super_block_bytes::<C, K>()) {
        let (super_bytes, packed) = packed.split_at(K::SUPER_BYTES);
        for packed in packed.chunks_exact(block_bytes::<C, K>()) {
            let (scales, codes) = packed.split_at(K::BLOCK_BYTES);
            let scales = K::load(simd, super_bytes, scales);
            let weights = C::load(simd, codes);
            for t in 0..T {
                let (codes, sums) = (&rows[t].0[b], &rows[t].1[b]);
                let sum = integer_sum::<S, C, K>(simd, &weights, &scales, codes, sums);
                let scale = simd.mul(scales.scale, simd.splat(sums.scale));
                elements[t] = simd.fma(scale, simd.i32_to_f32(sum), elements[t]);
                if K::MINIMUM {
                    elements[t] = simd.fma(scales.minimum, simd.splat(sums.scaled_sum), elements[t]);
                }
            }
            b += 1;
        }
    }
    for t in 0..T {
        let mut lanes = [0.0; 8];
        simd.store(elements[t], &mut lanes);
        out.store(token + t, group, &lanes);
    }
    T
}

/// The exact sum of products of a block of eight rows with one token.
#[inline(always)]
fn integer_sum<S: Simd, C: Codes, K: Scales>(
    simd: S,
    weights: &[S::Bytes; 8],
    scales: &BlockScales<S>,
    x: &[i8; 32],
    sums: &BlockSums,
) -> S::I32 {
    let mut halves = [simd.i32_splat(0); 2];
    for half in 0..2 {
        let mut narrow = simd.dot_zero();
        for v in 4 * half..4 * half + 4 {
            let x = simd.splat4([x[4 * v], x[4 * v + 1], x[4 * v + 2], x[4 * v + 3]]);
            if C::SUMMANDS == 0 {
                halves[half] = simd.i32_add(halves[half], simd.dot_signed(weights[v], x));
            } else {
                narrow = simd.dot(narrow, weights[v], x);
                if (v + 1) % C::SUMMANDS == 0 {
                    halves[half] = simd.i32_add(halves[half], simd.dot_finish(narrow));
                    narrow = simd.dot_zero();
                }
            }
        }
        if K::HALVES {
            let offset = simd.i32_splat(C::OFFSET * sums.halves[half]);
            halves[half] = simd.i32_mul(simd.i32_sub(halves[half], offset), scales.halves[half]);
        }
    }
    let sum = simd.i32_add(halves[0], halves[1]);
    if C::OFFSET == 0 || K::HALVES {
        return sum;
    }
    simd.i32_sub(sum, simd.i32_splat(C::OFFSET * (sums.halves[0] + sums.halves[1])))
}
