//! Matrices of integer codes: blocks of 32 columns, multiplied with activations quantized to bytes.
//!
//! An element is summed block by block: the exact integer sum of products, then `fma(w_scale * x_scale, sum, element)`,
//! then, for types with a minimum, `fma(minimum, x_scale * x_sum, element)`.
//!
//! Packed, a super-block (256 columns for K-quants, 32 otherwise) of sixteen rows is its scales ([`Scales`]), then its
//! blocks, each its own scales and the codes ([`Codes`]). Codes lie in vectors of sixteen rows by four columns: vectors
//! 0 to 3 hold columns 0 to 15 and vectors 4 to 7 hold columns 16 to 31; narrow codes put vector `v` into the low and
//! vector `v + 4` into the high nibbles, with further bits in planes behind them.

use std::marker::PhantomData;
use std::ops::Range;

use super::output::Output;
use super::packed::Matrix;
use super::prefetch::prefetch;
use super::tiles::{Product, Tiles, is_first_tile, multiply_tiles};
use crate::activations::{self, Activations};
use crate::block::{Block, decode_block};
use crate::simd::{GROUP, Isa, Simd, first, simd_fn};
use crate::weight_type::WeightType;

/// Bytes of a vector: sixteen rows by four columns.
const VECTOR: usize = 4 * GROUP;

/// Bytes of a half for each row.
const HALVES: usize = 2 * GROUP;

/// The most blocks to a super-block.
const MAX_BLOCKS: usize = 8;

/// How the integer codes of a block lie and how wide they are.
trait Codes {
    /// Bytes of 16 rows by 32 columns.
    const BYTES: usize;
    /// Signed bytes, stored plus 128; unsigned codes otherwise.
    const BIASED: bool;
    /// What is subtracted from every unsigned code is 2 to this power, if anything.
    const OFFSET_BITS: Option<u32>;
    /// Calls of [`Simd::dot`] whose sums fit 16 bits.
    const SUMMANDS: usize;
    fn pack(blocks: &[Block], packed: &mut [u8]);
    fn code(packed: &[u8], row: usize, column: usize) -> u8;
    /// Part `part` of vector `vector`.
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes;
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
    fn load<S: Simd>(simd: S, super_bytes: &[u8], block_bytes: &[u8], part: usize) -> BlockScales<S>;
}

#[derive(Clone, Copy)]
struct BlockScales<S: Simd> {
    scale: S::F32,
    minimum: S::F32,
    halves: [S::I32; 2],
}

impl<S: Simd> BlockScales<S> {
    #[inline(always)]
    fn zero(simd: S) -> Self {
        let zero = simd.splat(0.0);
        Self { scale: zero, minimum: zero, halves: [simd.i32_splat(0); 2] }
    }
}

/// The vector of column `column`, and the byte in it of row `row`.
const fn place(row: usize, column: usize) -> (usize, usize) {
    (column / 4, row * 4 + column % 4)
}

/// A row's part of a vector: four columns, as one number of four bytes.
const QUAD: usize = 4;

/// The codes of each vector's columns, for one row.
fn quads(block: &Block) -> [u32; 8] {
    let (quads, _) = block.codes.as_chunks::<QUAD>();
    std::array::from_fn(|vector| u32::from_le_bytes(quads[vector]))
}

/// Puts the part of row `row` into a vector.
fn put_quad(vector: &mut [u8], row: usize, quad: u32) {
    vector[QUAD * row..][..QUAD].copy_from_slice(&quad.to_le_bytes());
}

/// `byte` in each byte of a [`QUAD`].
const fn in_each(byte: u8) -> u32 {
    u32::from_le_bytes([byte; QUAD])
}

/// Signed bytes, plus 128: the byte products of most instruction sets take unsigned weights.
struct Bytes;

impl Codes for Bytes {
    const BYTES: usize = 8 * VECTOR;
    const BIASED: bool = true;
    const OFFSET_BITS: Option<u32> = None;
    const SUMMANDS: usize = 1;

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            for (vector, quad) in packed.chunks_exact_mut(VECTOR).zip(quads(block)) {
                put_quad(vector, row, quad ^ in_each(128));
            }
        }
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        let (vector, byte) = place(row, column);
        packed[VECTOR * vector + byte] ^ 128
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes {
        simd.load_bytes(first(&packed[VECTOR * vector..]), part)
    }
}

/// Unsigned codes of `4 + PLANE_BITS` bits, minus 2 to the power of `OFFSET_BITS` unless that is 0.
struct Nibbles<const PLANE_BITS: usize, const OFFSET_BITS: u32>;

impl<const PLANE_BITS: usize, const OFFSET_BITS: u32> Codes for Nibbles<PLANE_BITS, OFFSET_BITS> {
    const BYTES: usize = (4 + PLANE_BITS) * VECTOR;
    const BIASED: bool = false;
    const OFFSET_BITS: Option<u32> = if OFFSET_BITS == 0 { None } else { Some(OFFSET_BITS) };
    // 2 * 127 * 15 * 8 = 30,480, 2 * 127 * 31 * 4 = 31,496 and 2 * 127 * 63 * 2 = 32,004 are below 2^15.
    const SUMMANDS: usize = 8 >> PLANE_BITS;

    fn pack(blocks: &[Block], packed: &mut [u8]) {
        let (nibbles, planes) = packed.split_at_mut(4 * VECTOR);
        for (row, block) in blocks.iter().enumerate() {
            let quads = quads(block);
            let low = quads.map(|quad| quad & in_each(15));
            for (v, vector) in nibbles.chunks_exact_mut(VECTOR).enumerate() {
                put_quad(vector, row, low[v] | low[v + 4] << 4);
            }
            if PLANE_BITS == 0 {
                continue;
            }
            let high = quads.map(|quad| quad >> 4 & in_each((1 << PLANE_BITS) - 1));
            for (plane, high) in planes.chunks_exact_mut(VECTOR).zip(high.chunks(8 / PLANE_BITS)) {
                let parts = high.iter().enumerate().map(|(i, quad)| quad << (i * PLANE_BITS));
                put_quad(plane, row, parts.fold(0, |all, part| all | part));
            }
        }
    }

    fn code(packed: &[u8], row: usize, column: usize) -> u8 {
        let (nibbles, planes) = packed.split_at(4 * VECTOR);
        let (vector, byte) = place(row, column);
        let low = nibbles[VECTOR * (vector % 4) + byte] >> (4 * (vector / 4)) & 15;
        if PLANE_BITS == 0 {
            return low;
        }
        let bit = vector * PLANE_BITS;
        low | (planes[VECTOR * (bit / 8) + byte] >> (bit % 8) & ((1 << PLANE_BITS) - 1)) << 4
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, packed: &[u8], vector: usize, part: usize) -> S::Bytes {
        let nibbles = simd.load_bytes(first(&packed[VECTOR * (vector % 4)..]), part);
        let low = if vector < 4 { simd.low_nibbles(nibbles) } else { simd.high_nibbles(nibbles) };
        if PLANE_BITS == 0 {
            return low;
        }
        let bit = vector * PLANE_BITS;
        let plane = simd.load_bytes(first(&packed[VECTOR * (4 + bit / 8)..]), part);
        simd.or(low, simd.bits_to_4(plane, (bit % 8) as u32, PLANE_BITS as u32))
    }
}

fn put_halves(packed: &mut [u8], halves: impl Iterator<Item = u16>) {
    for (index, half) in halves.enumerate() {
        packed[2 * index..][..2].copy_from_slice(&half.to_le_bytes());
    }
}

fn half_at(packed: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([packed[2 * index], packed[2 * index + 1]])
}

/// A half per block, and another for the minimum if `MINIMUM`.
struct Simple<const MINIMUM: bool>;

impl<const MINIMUM: bool> Scales for Simple<MINIMUM> {
    const BLOCKS: usize = 1;
    const SUPER_BYTES: usize = 0;
    const BLOCK_BYTES: usize = if MINIMUM { 2 * HALVES } else { HALVES };
    const MINIMUM: bool = MINIMUM;
    const HALVES: bool = false;

    fn pack_super(_: &[Block], _: &mut [u8]) {}

    fn pack_block(blocks: &[Block], packed: &mut [u8]) {
        put_halves(&mut packed[..HALVES], blocks.iter().map(|block| block.d));
        if MINIMUM {
            put_halves(&mut packed[HALVES..], blocks.iter().map(|block| block.d_min));
        }
    }

    fn unpack(_: &[u8], block_bytes: &[u8], row: usize) -> Block {
        let d_min = if MINIMUM { half_at(block_bytes, GROUP + row) } else { 0 };
        Block { codes: [0; 32], d: half_at(block_bytes, row), d_min, sub_scales: [1, 1], sub_min: 1 }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, _: &[u8], block_bytes: &[u8], part: usize) -> BlockScales<S> {
        let minimum =
            if MINIMUM { simd.load_f16(first(&block_bytes[HALVES..]), part) } else { simd.splat(0.0) };
        BlockScales {
            scale: simd.load_f16(first(block_bytes), part),
            minimum,
            halves: [simd.i32_splat(1); 2],
        }
    }
}

/// `Q4_K` and `Q5_K`: two halves per super-block, two 6-bit factors of them per block.
struct SuperMinimum;

impl Scales for SuperMinimum {
    const BLOCKS: usize = 8;
    const SUPER_BYTES: usize = 2 * HALVES;
    const BLOCK_BYTES: usize = 2 * GROUP;
    const MINIMUM: bool = true;
    const HALVES: bool = false;

    fn pack_super(blocks: &[Block], packed: &mut [u8]) {
        put_halves(&mut packed[..HALVES], blocks.iter().map(|block| block.d));
        put_halves(&mut packed[HALVES..], blocks.iter().map(|block| block.d_min));
    }

    fn pack_block(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            packed[row] = block.sub_scales[0] as u8;
            packed[GROUP + row] = block.sub_min;
        }
    }

    fn unpack(super_bytes: &[u8], block_bytes: &[u8], row: usize) -> Block {
        Block {
            codes: [0; 32],
            d: half_at(super_bytes, row),
            d_min: half_at(super_bytes, GROUP + row),
            sub_scales: [block_bytes[row] as i8; 2],
            sub_min: block_bytes[GROUP + row],
        }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, super_bytes: &[u8], block_bytes: &[u8], part: usize) -> BlockScales<S> {
        let d = simd.load_f16(first(super_bytes), part);
        let d_min = simd.load_f16(first(&super_bytes[HALVES..]), part);
        let minimum = simd.mul(d_min, simd.load_u8(first(&block_bytes[GROUP..]), part));
        BlockScales {
            scale: simd.mul(d, simd.load_u8(first(block_bytes), part)),
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
    const SUPER_BYTES: usize = HALVES;
    const BLOCK_BYTES: usize = 2 * GROUP;
    const MINIMUM: bool = false;
    const HALVES: bool = true;

    fn pack_super(blocks: &[Block], packed: &mut [u8]) {
        put_halves(packed, blocks.iter().map(|block| block.d));
    }

    fn pack_block(blocks: &[Block], packed: &mut [u8]) {
        for (row, block) in blocks.iter().enumerate() {
            packed[row] = block.sub_scales[0] as u8;
            packed[GROUP + row] = block.sub_scales[1] as u8;
        }
    }

    fn unpack(super_bytes: &[u8], block_bytes: &[u8], row: usize) -> Block {
        let sub_scales = [block_bytes[row] as i8, block_bytes[GROUP + row] as i8];
        Block { codes: [0; 32], d: half_at(super_bytes, row), d_min: 0, sub_scales, sub_min: 0 }
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, super_bytes: &[u8], block_bytes: &[u8], part: usize) -> BlockScales<S> {
        BlockScales {
            scale: simd.load_f16(first(super_bytes), part),
            minimum: simd.splat(0.0),
            halves: [
                simd.i32_load_i8(first(block_bytes), part),
                simd.i32_load_i8(first(&block_bytes[GROUP..]), part),
            ],
        }
    }
}

/// Evaluates `$body` with `$C` and `$K` bound to the codes and scales of a quantized weight type.
macro_rules! with_layout {
    ($weight_type:expr, $C:ident, $K:ident => $body:expr) => {
        match $weight_type {
            WeightType::Q8_0 => with_layout!(@ $C = Bytes, $K = Simple<false>, $body),
            WeightType::Q4_0 => with_layout!(@ $C = Nibbles<0, 3>, $K = Simple<false>, $body),
            WeightType::Q4_1 => with_layout!(@ $C = Nibbles<0, 0>, $K = Simple<true>, $body),
            WeightType::Q5_0 => with_layout!(@ $C = Nibbles<1, 4>, $K = Simple<false>, $body),
            WeightType::Q5_1 => with_layout!(@ $C = Nibbles<1, 0>, $K = Simple<true>, $body),
            WeightType::Q4K => with_layout!(@ $C = Nibbles<0, 0>, $K = SuperMinimum, $body),
            WeightType::Q5K => with_layout!(@ $C = Nibbles<1, 0>, $K = SuperMinimum, $body),
            WeightType::Q6K => with_layout!(@ $C = Nibbles<2, 5>, $K = SuperHalves, $body),
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

/// Bytes of sixteen rows of `columns` weights, packed: whole super-blocks, which is all that kernels ask of a matrix.
///
/// # Panics
/// If a row is no whole number of super-blocks.
pub(super) fn group_bytes(weight_type: WeightType, columns: usize) -> usize {
    with_layout!(weight_type, C, K => {
        assert!(columns.is_multiple_of(32 * K::BLOCKS), "a row of whole super-blocks");
        columns / (32 * K::BLOCKS) * super_block_bytes::<C, K>()
    })
}

/// Packs up to sixteen rows of a file.
pub(super) fn pack_group(weight_type: WeightType, rows: &[&[u8]], packed: &mut [u8]) {
    with_layout!(weight_type, C, K => {
        let size = weight_type.block_bytes();
        // blocks[b]: block b of every row.
        let mut blocks = [[Block::ZERO; GROUP]; MAX_BLOCKS];
        for (index, packed) in packed.chunks_exact_mut(super_block_bytes::<C, K>()).enumerate() {
            for (r, row) in rows.iter().enumerate() {
                let mut b = 0;
                decode_block(weight_type, &row[index * size..][..size], |block| {
                    blocks[b][r] = block;
                    b += 1;
                });
            }
            let blocks = blocks.each_ref().map(|blocks| &blocks[..rows.len()]);
            let (super_bytes, packed) = packed.split_at_mut(K::SUPER_BYTES);
            K::pack_super(blocks[0], super_bytes);
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
        multiply_tiles(Quantized::<S, C, K> { simd, matrix, x, layout: PhantomData }, out);
    }
}

/// A product with codes `C` and scales `K`.
struct Quantized<'a, S, C, K> {
    simd: S,
    matrix: &'a Matrix,
    x: &'a Activations,
    layout: PhantomData<(C, K)>,
}

impl<S: Copy, C, K> Clone for Quantized<'_, S, C, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, C, K> Copy for Quantized<'_, S, C, K> {}

impl<S: Simd, C: Codes, K: Scales> Product<S> for Quantized<'_, S, C, K> {
    // Scales for each half of a block take registers from sums.
    const TILES: Tiles = Tiles {
        light_vectors: S::PARTS,
        light_tokens: if K::HALVES { &[1] } else { S::LIGHT_TILES },
        vectors: S::TILE_VECTORS,
        tokens: if K::HALVES && S::TILES.len() > 1 { &[2, 3, 4] } else { S::TILES },
    };

    #[inline(always)]
    fn tokens(self) -> usize {
        self.x.tokens()
    }

    #[inline(always)]
    fn tile<const V: usize, const T: usize>(self, vector: usize, tokens: Range<usize>, out: &mut Output<'_>) {
        let Self { simd, matrix, x, .. } = self;
        let (groups, parts) = matrix.vectors::<S, V>(vector);
        let is_first = is_first_tile(&tokens);
        let mut elements = [[simd.splat(0.0); T]; V];
        let mut b = 0;
        for at in (0..matrix.group_bytes).step_by(super_block_bytes::<C, K>()) {
            let mut super_blocks = [&[][..]; V];
            for v in 0..V {
                super_blocks[v] = &groups[v][at..][..super_block_bytes::<C, K>()];
            }
            for block in 0..K::BLOCKS {
                let start = K::SUPER_BYTES + block * block_bytes::<C, K>();
                if is_first {
                    prefetch::<S, V>(simd, groups, at + start, block_bytes::<C, K>());
                }
                let x = x.quantized::<T>(b, tokens.start);
                let mut scales = [BlockScales::zero(simd); V];
                let mut codes = [&[][..]; V];
                for v in 0..V {
                    let block = &super_blocks[v][start..][..block_bytes::<C, K>()];
                    scales[v] = K::load(simd, super_blocks[v], block, parts[v]);
                    codes[v] = &block[K::BLOCK_BYTES..];
                }
                let sums = integer_sums::<S, C, K, V, T>(simd, codes, parts, &scales, x);
                for t in 0..T {
                    let x_scale = simd.splat(x[t].scale);
                    for v in 0..V {
                        let scale = simd.mul(scales[v].scale, x_scale);
                        elements[v][t] = simd.fma(scale, simd.i32_to_f32(sums[v][t]), elements[v][t]);
                    }
                    if K::MINIMUM {
                        let x_sum = simd.splat(x[t].scaled_sum);
                        for v in 0..V {
                            elements[v][t] = simd.fma(scales[v].minimum, x_sum, elements[v][t]);
                        }
                    }
                }
                b += 1;
            }
        }
        for (t, token) in tokens.enumerate() {
            for v in 0..V {
                out.store(simd, token, vector + v, elements[v][t]);
            }
        }
    }
}

/// The exact sums of products of a block of `V` vectors of rows with each of `T` tokens.
#[inline(always)]
fn integer_sums<S: Simd, C: Codes, K: Scales, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    scales: &[BlockScales<S>; V],
    x: &[activations::Quantized; T],
) -> [[S::I32; T]; V] {
    let mut sums = [[simd.i32_splat(0); T]; V];
    if K::HALVES {
        for half in 0..2 {
            let mut half_sums = [[simd.i32_splat(0); T]; V];
            for t in 0..T {
                let activations::Quantized { negated_sum, negated_first_half, .. } = x[t];
                let of_half = if half == 0 { negated_first_half } else { negated_sum - negated_first_half };
                let offset = negated_offset::<S, C>(simd, of_half);
                for v in 0..V {
                    half_sums[v][t] = offset;
                }
            }
            add_products::<S, C, V, T>(simd, packed, parts, 4 * half..4 * half + 4, x, &mut half_sums);
            for v in 0..V {
                for t in 0..T {
                    let scaled = simd.i32_mul(half_sums[v][t], scales[v].halves[half]);
                    sums[v][t] = simd.i32_add(sums[v][t], scaled);
                }
            }
        }
    } else {
        for t in 0..T {
            let offset = negated_offset::<S, C>(simd, x[t].negated_sum);
            for v in 0..V {
                sums[v][t] = offset;
            }
        }
        add_products::<S, C, V, T>(simd, packed, parts, 0..8, x, &mut sums);
    }
    sums
}

/// The offset of the codes times the negated sum of activations: where a sum of products starts.
#[inline(always)]
fn negated_offset<S: Simd, C: Codes>(simd: S, negated_sum: i32) -> S::I32 {
    let bits = match (C::BIASED, C::OFFSET_BITS) {
        (true, _) if S::BIAS != 0 => S::BIAS.ilog2(),
        (false, Some(bits)) => bits,
        _ => return simd.i32_splat(0),
    };
    simd.i32_shift_left(simd.i32_splat(negated_sum), bits)
}

/// Adds the products of `columns` (vectors of four), each unpacked once, with `T` tokens.
#[inline(always)]
fn add_products<S: Simd, C: Codes, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    columns: Range<usize>,
    x: &[activations::Quantized; T],
    sums: &mut [[S::I32; T]; V],
) {
    let mut products = [[simd.dot_zero(); T]; V];
    for c in columns.clone() {
        let mut weights = [simd.splat4([0; 4]); V];
        for v in 0..V {
            weights[v] = C::load(simd, packed[v], c, parts[v]);
        }
        for t in 0..T {
            let x = &x[t].codes;
            let x = simd.splat4([x[4 * c], x[4 * c + 1], x[4 * c + 2], x[4 * c + 3]]);
            for v in 0..V {
                if C::BIASED {
                    sums[v][t] = simd.dot_biased(sums[v][t], weights[v], x);
                } else {
                    products[v][t] = simd.dot(products[v][t], weights[v], x);
                }
            }
        }
        let is_full = !S::WIDE_DOT && (c + 1) % C::SUMMANDS == 0;
        if !C::BIASED && (is_full || c + 1 == columns.end) {
            for v in 0..V {
                for t in 0..T {
                    sums[v][t] = simd.dot_finish(sums[v][t], products[v][t]);
                    products[v][t] = simd.dot_zero();
                }
            }
        }
    }
}
