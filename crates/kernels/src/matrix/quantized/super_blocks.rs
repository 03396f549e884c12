//! K-quants: super-blocks of 256 columns, whose blocks (or halves of blocks) have integer scales.
//!
//! An element is summed super-block by super-block: `fma(d * x_scale, sum, element)` with the exact integer sum of products of sub-scale,
//! code and activation; then, for types with minima, `fma(-d_min * x_scale, minima, element)` with the exact integer sum of products of
//! minimum and activation.
//!
//! A packed super-block of sixteen rows is its halves, its sub-scales and minima in vectors as of codes (four blocks, or halves of blocks,
//! where codes have four columns), and the codes of its blocks.

use std::marker::PhantomData;
use std::ops::Range;

use super::codes::{Codes, QUAD, VECTOR, put_quad};
use super::products::{VECTORS, are_biased, biased_products, offset_bits, products, run};
use super::{HALVES, Layout, MAX_BLOCKS, half_at, put_halves, splat_codes};
use crate::activations::{Activations, SPLIT_BITS, SuperBlockCodes, SuperBlockScale};
use crate::block::Block;
use crate::matrix::output::Output;
use crate::matrix::packed::Matrix;
use crate::matrix::packed_form::PackedForm;
use crate::matrix::prefetch::prefetch;
use crate::matrix::tiles::{MatrixProduct, Product, Tiles, is_first_tile, multiply_tiles};
#[cfg(target_arch = "x86_64")]
use crate::simd::IsaKind;
use crate::simd::{GROUP, Isa, Simd, first, simd_fn};

/// Codes `C` with the sub-scales `K`.
pub(super) struct SuperBlocks<C, K>(PhantomData<(C, K)>);

/// Which integer scales there are.
pub(super) trait SubScales {
    /// Scales to a block: for each half, if two.
    const TO_A_BLOCK: usize;
    /// Whether there is a minimum to each scale.
    const MINIMUM: bool;
    /// Bytes of the halves.
    const HALF_BYTES: usize = if Self::MINIMUM { 2 * HALVES } else { HALVES };
    /// Vectors of sub-scales, and of minima where there are any.
    const SCALE_VECTORS: usize = Self::TO_A_BLOCK * MAX_BLOCKS / QUAD;
    /// Bytes before the codes.
    const HEAD_BYTES: usize =
        Self::HALF_BYTES + Self::SCALE_VECTORS * VECTOR * if Self::MINIMUM { 2 } else { 1 };
}

/// The most vectors of minima.
pub(super) const MINIMUM_VECTORS: usize = 2 * MAX_BLOCKS / QUAD;

/// `Q4_K` and `Q5_K`: a 6-bit scale and a 6-bit minimum to each block.
pub(super) struct MinimumScales;

impl SubScales for MinimumScales {
    const TO_A_BLOCK: usize = 1;
    const MINIMUM: bool = true;
}

/// `Q2_K`: two 4-bit scales and minima to each block, one for each half.
pub(super) struct HalfMinimumScales;

impl SubScales for HalfMinimumScales {
    const TO_A_BLOCK: usize = 2;
    const MINIMUM: bool = true;
}

/// `IQ4_XS` and others: a scale of 6 bits or fewer to each block.
pub(super) struct WholeScales;

impl SubScales for WholeScales {
    const TO_A_BLOCK: usize = 1;
    const MINIMUM: bool = false;
}

/// `Q6_K` and others: two scales of 8 bits or fewer to each block, one for each half.
pub(super) struct HalfScales;

impl SubScales for HalfScales {
    const TO_A_BLOCK: usize = 2;
    const MINIMUM: bool = false;
}

/// Sub-scales lie signed plus 128, as [`Simd::dot_biased`] and [`Simd::factor`] take them.
const BIAS: u8 = 128;

impl<C: Codes, K: SubScales> SuperBlocks<C, K> {
    /// The scales of some rows of a packed super-block.
    #[inline(always)]
    pub(super) fn scale<S: Simd>(simd: S, packed: &[u8], part: usize) -> S::F32 {
        let d = simd.load_f16(first(packed), part);
        if C::UNIT == 1.0 { d } else { simd.mul(d, simd.splat(C::UNIT)) }
    }

    /// The vectors of sub-scales of a packed super-block.
    #[inline(always)]
    pub(super) fn scales(packed: &[u8]) -> &[u8] {
        &packed[K::HALF_BYTES..]
    }

    /// The vectors of minima.
    #[inline(always)]
    pub(super) fn minima(packed: &[u8]) -> &[u8] {
        &packed[K::HALF_BYTES + K::SCALE_VECTORS * VECTOR..]
    }

    /// The codes of block `block`.
    #[inline(always)]
    pub(super) fn codes(packed: &[u8], block: usize) -> &[u8] {
        &packed[K::HEAD_BYTES + block * C::BYTES..][..C::BYTES]
    }
}

impl<C: Codes, K: SubScales> Layout for SuperBlocks<C, K> {
    const BLOCKS: usize = MAX_BLOCKS;
    const BYTES: usize = K::HEAD_BYTES + MAX_BLOCKS * C::BYTES;
    const FORM: PackedForm =
        PackedForm::SuperBlocks { codes: C::FORM, scales: K::TO_A_BLOCK, minimum: K::MINIMUM };

    fn pack(blocks: &[&[Block]], packed: &mut [u8]) {
        let (head, codes) = packed.split_at_mut(K::HEAD_BYTES);
        let (halves, vectors) = head.split_at_mut(K::HALF_BYTES);
        put_halves(&mut halves[..HALVES], blocks[0].iter().map(|block| block.d[0]));
        if K::MINIMUM {
            put_halves(&mut halves[HALVES..], blocks[0].iter().map(|block| block.d_min));
        }
        // Rows that there are none of have scales of 0, too.
        let (scales, minima) = vectors.split_at_mut(K::SCALE_VECTORS * VECTOR);
        scales.fill(BIAS);
        for row in 0..blocks[0].len() {
            // The block of a scale, and which of its scales it is.
            let place = |v: usize, i: usize| {
                let index = QUAD * v + i;
                (&blocks[index / K::TO_A_BLOCK][row], index % K::TO_A_BLOCK)
            };
            for (v, vector) in scales.chunks_exact_mut(VECTOR).enumerate() {
                let scale = |i: usize| {
                    let (block, half) = place(v, i);
                    block.sub_scales[half] as u8 ^ BIAS
                };
                put_quad(vector, row, u32::from_le_bytes([0, 1, 2, 3].map(scale)));
            }
            for (v, vector) in minima.chunks_exact_mut(VECTOR).enumerate() {
                let minimum = |i: usize| {
                    let (block, half) = place(v, i);
                    block.sub_minima[half]
                };
                put_quad(vector, row, u32::from_le_bytes([0, 1, 2, 3].map(minimum)));
            }
        }
        for (blocks, codes) in blocks.iter().zip(codes.chunks_exact_mut(C::BYTES)) {
            C::pack(blocks, codes);
        }
    }

    fn unpack(packed: &[u8], block: usize, row: usize) -> Block {
        let at = |vectors: &[u8], half: usize| {
            let index = K::TO_A_BLOCK * block + half.min(K::TO_A_BLOCK - 1);
            vectors[VECTOR * (index / QUAD) + QUAD * row + index % QUAD]
        };
        let scale = |half| (at(Self::scales(packed), half) ^ BIAS) as i8;
        let minimum = |half| if K::MINIMUM { at(Self::minima(packed), half) } else { 0 };
        Block {
            codes: std::array::from_fn(|column| C::code(Self::codes(packed, block), row, column)),
            d: [half_at(packed, row); 2],
            d_min: if K::MINIMUM { half_at(packed, GROUP + row) } else { 0 },
            sub_scales: [scale(0), scale(1)],
            sub_minima: [minimum(0), minimum(1)],
        }
    }

    fn multiply(isa: Isa, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            IsaKind::Amx(amx) if x.tokens() >= super::amx::LEAST_TOKENS => {
                super::amx::multiply_super_blocks::<C, K>(amx, matrix, x, out);
            }
            _ => multiply_vectors::<C, K>(isa, matrix, x, out),
        }
    }
}

simd_fn! {
    fn multiply_vectors<C: Codes, K: SubScales>(simd, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
        multiply_tiles(MatrixProduct::<S, SuperBlocks<C, K>> { simd, matrix, x, layout: PhantomData }, out);
    }
}

impl<S: Simd, C: Codes, K: SubScales> Product<S> for MatrixProduct<'_, S, SuperBlocks<C, K>> {
    const TILES: Tiles = Tiles {
        light_vectors: S::PARTS,
        // Six bits take longer to unpack: arithmetic is the limit sooner.
        light_tokens: if K::TO_A_BLOCK == 2 { &[1, 2] } else { S::LIGHT_TILES },
        vectors: S::TILE_VECTORS,
        tokens: S::TILES,
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
        let bytes = SuperBlocks::<C, K>::BYTES;
        for (b, at) in (0..matrix.group_bytes).step_by(bytes).enumerate() {
            let mut packed = [&[][..]; V];
            for v in 0..V {
                packed[v] = &groups[v][at..][..bytes];
            }
            let (x_codes, x) = x.super_blocks::<T>(b, tokens.start);
            let mut sums = [[simd.i32_splat(0); T]; V];
            for block in 0..MAX_BLOCKS {
                if is_first {
                    prefetch::<S, V>(simd, groups, at + block * (bytes / MAX_BLOCKS), bytes / MAX_BLOCKS);
                }
                add_block::<S, C, K, V, T>(simd, packed, parts, block, x_codes, &mut sums);
            }
            for t in 0..T {
                let x_scale = simd.splat(x[t].scale);
                for v in 0..V {
                    let d = SuperBlocks::<C, K>::scale(simd, packed[v], parts[v]);
                    let sum = simd.i32_add(sums[v][t], offset::<S, C, K>(simd, packed[v], parts[v], &x[t]));
                    elements[v][t] = simd.fma(simd.mul(d, x_scale), simd.i32_to_f32(sum), elements[v][t]);
                    if K::MINIMUM {
                        let d_min = simd.load_f16(first(&packed[v][HALVES..]), parts[v]);
                        let minima =
                            negated_minima::<S, K>(simd, minima::<S, C, K>(simd, packed[v], parts[v]), &x[t]);
                        elements[v][t] =
                            simd.fma(simd.mul(d_min, x_scale), simd.i32_to_f32(minima), elements[v][t]);
                    }
                }
            }
        }
        for (t, token) in tokens.enumerate() {
            for v in 0..V {
                out.store(simd, token, vector + v, elements[v][t]);
            }
        }
    }
}

/// Adds the products of a block, times its sub-scales.
#[inline(always)]
fn add_block<S: Simd, C: Codes, K: SubScales, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    block: usize,
    x: &[SuperBlockCodes; T],
    sums: &mut [[S::I32; T]; V],
) {
    let mut codes = [&[][..]; V];
    for v in 0..V {
        codes[v] = SuperBlocks::<C, K>::codes(packed[v], block);
    }
    let mut x_codes = [&[0; 32]; T];
    for t in 0..T {
        x_codes[t] = first(&x[t].0[32 * block..]);
    }
    for part_of_block in 0..K::TO_A_BLOCK {
        let scale = K::TO_A_BLOCK * block + part_of_block;
        let mut factors = [simd.factor(simd.splat4([0; 4]), 0); V];
        for v in 0..V {
            factors[v] = factor::<S, C, K>(simd, packed[v], parts[v], scale);
        }
        let vectors = const { VECTORS / K::TO_A_BLOCK };
        if are_biased::<S, C>(T) {
            let of_part = part_of_block * vectors..(part_of_block + 1) * vectors;
            let none = [[simd.i32_splat(0); T]; V];
            let products = biased_products::<S, C, V, T>(simd, codes, parts, of_part, x_codes, none);
            for v in 0..V {
                for t in 0..T {
                    sums[v][t] = simd.i32_scale(sums[v][t], products[v][t], factors[v]);
                }
            }
        } else {
            let run = const { run::<S, C>(VECTORS / K::TO_A_BLOCK) };
            for r in 0..vectors / run {
                let first = part_of_block * vectors + r * run;
                let products = products::<S, C, V, T>(simd, codes, parts, first..first + run, x_codes);
                for v in 0..V {
                    for t in 0..T {
                        sums[v][t] = simd.dot_scale(sums[v][t], products[v][t], factors[v]);
                    }
                }
            }
        }
    }
}

/// The sub-scales `scale` of a part of the rows.
#[inline(always)]
pub(super) fn factor<S: Simd, C: Codes, K: SubScales>(
    simd: S,
    packed: &[u8],
    part: usize,
    scale: usize,
) -> S::Factor {
    let scales = &SuperBlocks::<C, K>::scales(packed)[VECTOR * (scale / QUAD)..];
    simd.factor(simd.load_bytes(first(scales), part), (scale % QUAD) as u32)
}

/// What the offset of the codes comes to: 2 to the power of its bits times the sum of products of sub-scales and negated sums of activations.
#[inline(always)]
fn offset<S: Simd, C: Codes, K: SubScales>(
    simd: S,
    packed: &[u8],
    part: usize,
    x: &SuperBlockScale,
) -> S::I32 {
    let Some(bits) = offset_bits::<S, C>() else { return simd.i32_splat(0) };
    // The bias of the sub-scales is taken off again.
    let mut low = simd.i32_splat(S::BIAS * x.sum);
    let mut high = simd.i32_splat(0);
    let [negated_low, negated_high] = x.negated_sums(K::TO_A_BLOCK);
    for v in 0..K::SCALE_VECTORS {
        let scales = simd.load_bytes(first(&SuperBlocks::<C, K>::scales(packed)[VECTOR * v..]), part);
        low = simd.dot_biased(low, scales, splat_codes(simd, negated_low, QUAD * v));
        high = simd.dot_biased(high, scales, splat_codes(simd, negated_high, QUAD * v));
    }
    simd.i32_shift_left(simd.i32_add(low, simd.i32_shift_left(high, SPLIT_BITS)), bits)
}

/// The vectors of minima of a part of the rows: as many as of sub-scales.
#[inline(always)]
pub(super) fn minima<S: Simd, C: Codes, K: SubScales>(
    simd: S,
    packed: &[u8],
    part: usize,
) -> [S::Bytes; MINIMUM_VECTORS] {
    let mut minima = [simd.splat4([0; 4]); MINIMUM_VECTORS];
    for v in 0..K::SCALE_VECTORS {
        minima[v] = simd.load_bytes(first(&SuperBlocks::<C, K>::minima(packed)[VECTOR * v..]), part);
    }
    minima
}

/// The sum of products of minima and negated sums of activations.
#[inline(always)]
pub(super) fn negated_minima<S: Simd, K: SubScales>(
    simd: S,
    minima: [S::Bytes; MINIMUM_VECTORS],
    x: &SuperBlockScale,
) -> S::I32 {
    let (mut low, mut high) = (simd.dot_zero(), simd.dot_zero());
    let [negated_low, negated_high] = x.negated_sums(K::TO_A_BLOCK);
    for v in 0..K::SCALE_VECTORS {
        low = simd.dot(low, minima[v], splat_codes(simd, negated_low, QUAD * v));
        high = simd.dot(high, minima[v], splat_codes(simd, negated_high, QUAD * v));
    }
    let zero = simd.i32_splat(0);
    simd.i32_add(simd.dot_finish(zero, low), simd.i32_shift_left(simd.dot_finish(zero, high), SPLIT_BITS))
}
