//! Weights with a scale, and perhaps a minimum, to every 32 columns, or with a scale to every 16.
//!
//! An element is summed block by block: the exact integer sum of products, then `fma(w_scale * x_scale, sum, element)`,
//! then, for types with a minimum, `fma(minimum, x_scale * x_sum, element)`. Where halves of blocks have scales, the first half comes first.
//!
//! A packed block of sixteen rows is its scales, its minima, and its codes.

use std::marker::PhantomData;
use std::ops::Range;

use super::codes::Codes;
use super::products::{VECTORS, are_biased, biased_products, offset_bits, products, run};
use super::{HALVES, Layout, half_at, put_halves};
use crate::activations::{Activations, BlockCodes, BlockScale};
use crate::block::Block;
use crate::matrix::output::Output;
use crate::matrix::packed::Matrix;
use crate::matrix::packed_form::PackedForm;
use crate::matrix::prefetch::prefetch;
use crate::matrix::tiles::{MatrixProduct, Product, Tiles, is_first_tile, multiply_tiles};
#[cfg(target_arch = "x86_64")]
use crate::simd::IsaKind;
use crate::simd::{GROUP, Isa, Simd, first, simd_fn};

/// Codes `C` with scales and perhaps minima `M`.
pub(super) struct Blocks<C, M>(PhantomData<(C, M)>);

/// What the scales of a block are, and whether it has minima.
pub(super) trait ScaleForm {
    const HAS_MINIMUM: bool;
    /// Scales to a block: for each half, if two.
    const TO_A_BLOCK: usize = 1;
    /// Whether they are bfloat16s, not halves.
    const POWERS_OF_TWO: bool = false;

    /// The scales of some rows.
    #[inline(always)]
    fn load<S: Simd>(simd: S, scales: &[u8; HALVES], part: usize) -> S::F32 {
        if Self::POWERS_OF_TWO { simd.load_bf16(scales, part) } else { simd.load_f16(scales, part) }
    }
}

/// Halves.
pub(super) struct HalfScale;

impl ScaleForm for HalfScale {
    const HAS_MINIMUM: bool = false;
}

/// Halves, and halves as minima.
pub(super) struct HalfScaleAndMinimum;

impl ScaleForm for HalfScaleAndMinimum {
    const HAS_MINIMUM: bool = true;
}

/// Powers of two, beyond the range of halves: bfloat16.
pub(super) struct PowerOfTwo;

impl ScaleForm for PowerOfTwo {
    const HAS_MINIMUM: bool = false;
    const POWERS_OF_TWO: bool = true;
}

/// Halves, two to a block.
pub(super) struct TwoHalfScales;

impl ScaleForm for TwoHalfScales {
    const HAS_MINIMUM: bool = false;
    const TO_A_BLOCK: usize = 2;
}

impl<C: Codes, M: ScaleForm> Blocks<C, M> {
    /// Bytes at the head of a block.
    pub(super) const SCALE_BYTES: usize = if M::HAS_MINIMUM { 2 * HALVES } else { M::TO_A_BLOCK * HALVES };
}

impl<C: Codes, M: ScaleForm> Layout for Blocks<C, M> {
    const BLOCKS: usize = 1;
    const BYTES: usize = Self::SCALE_BYTES + C::BYTES;
    const FORM: PackedForm = PackedForm::Blocks {
        codes: C::FORM,
        scales: M::TO_A_BLOCK,
        minimum: M::HAS_MINIMUM,
        powers_of_two: M::POWERS_OF_TWO,
    };

    fn pack(blocks: &[&[Block]], packed: &mut [u8]) {
        let (scales, codes) = packed.split_at_mut(Self::SCALE_BYTES);
        for (half, scales) in scales.chunks_exact_mut(HALVES).take(M::TO_A_BLOCK).enumerate() {
            put_halves(scales, blocks[0].iter().map(|block| block.d[half]));
        }
        if M::HAS_MINIMUM {
            put_halves(&mut scales[HALVES..], blocks[0].iter().map(|block| block.d_min));
        }
        C::pack(blocks[0], codes);
    }

    fn unpack(packed: &[u8], _: usize, row: usize) -> Block {
        let (scales, codes) = packed.split_at(Self::SCALE_BYTES);
        let d_min = if M::HAS_MINIMUM { half_at(scales, GROUP + row) } else { 0 };
        let codes = std::array::from_fn(|column| C::code(codes, row, column));
        let d = [half_at(scales, row), half_at(&scales[(M::TO_A_BLOCK - 1) * HALVES..], row)];
        Block { codes, d, d_min, sub_scales: [1, 1], sub_minima: [1, 1] }
    }

    fn multiply(isa: Isa, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            IsaKind::Amx(amx) if x.tokens() >= super::amx::LEAST_TOKENS && M::TO_A_BLOCK == 1 => {
                super::amx::multiply_blocks::<C, M>(amx, matrix, x, out);
            }
            _ => multiply_vectors::<C, M>(isa, matrix, x, out),
        }
    }
}

simd_fn! {
    fn multiply_vectors<C: Codes, M: ScaleForm>(simd, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
        multiply_tiles(MatrixProduct::<S, Blocks<C, M>> { simd, matrix, x, layout: PhantomData }, out);
    }
}

/// The scales and minima of some rows of a block.
#[derive(Clone, Copy)]
pub(super) struct BlockScales<S: Simd> {
    scale: S::F32,
    minimum: S::F32,
}

impl<S: Simd> BlockScales<S> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self { scale: simd.splat(0.0), minimum: simd.splat(0.0) }
    }

    #[inline(always)]
    pub(super) fn load<M: ScaleForm>(simd: S, block: &[u8], half: usize, part: usize) -> Self {
        let scale = M::load(simd, first(&block[half * HALVES..]), part);
        let minimum =
            if M::HAS_MINIMUM { simd.load_f16(first(&block[HALVES..]), part) } else { simd.splat(0.0) };
        Self { scale, minimum }
    }

    /// Adds to `element` what a block with the integer sum `sum` comes to.
    #[inline(always)]
    pub(super) fn add<M: ScaleForm>(&self, simd: S, x: &BlockScale, sum: S::I32, element: S::F32) -> S::F32 {
        let scale = simd.mul(self.scale, simd.splat(x.scale));
        let element = simd.fma(scale, simd.i32_to_f32(sum), element);
        if M::HAS_MINIMUM { simd.fma(self.minimum, simd.splat(x.scaled_sum), element) } else { element }
    }
}

impl<S: Simd, C: Codes, M: ScaleForm> Product<S> for MatrixProduct<'_, S, Blocks<C, M>> {
    const TILES: Tiles = Tiles {
        light_vectors: S::PARTS,
        light_tokens: S::LIGHT_TILES,
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
        let block_bytes = Blocks::<C, M>::BYTES;
        for (b, at) in (0..matrix.group_bytes).step_by(block_bytes).enumerate() {
            if is_first {
                prefetch::<S, V>(simd, groups, at, block_bytes);
            }
            let (x_codes, x_scales) = x.blocks::<T>(b, tokens.start);
            let mut blocks = [&[][..]; V];
            let mut codes = [&[][..]; V];
            for v in 0..V {
                blocks[v] = &groups[v][at..][..block_bytes];
                codes[v] = &blocks[v][Blocks::<C, M>::SCALE_BYTES..];
            }
            for half in 0..M::TO_A_BLOCK {
                let mut scales = [BlockScales::zero(simd); V];
                for v in 0..V {
                    scales[v] = BlockScales::load::<M>(simd, blocks[v], half, parts[v]);
                }
                let sums = integer_sums::<S, C, M, V, T>(simd, codes, parts, half, x_codes, x_scales);
                for t in 0..T {
                    for v in 0..V {
                        elements[v][t] = scales[v].add::<M>(simd, &x_scales[t], sums[v][t], elements[v][t]);
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

/// The exact sums of products of a block, or of half `half` if each has a scale, of `V` vectors of rows with each of `T` tokens.
#[inline(always)]
fn integer_sums<S: Simd, C: Codes, M: ScaleForm, const V: usize, const T: usize>(
    simd: S,
    packed: [&[u8]; V],
    parts: [usize; V],
    half: usize,
    x_codes: &[BlockCodes; T],
    x_scales: &[BlockScale; T],
) -> [[S::I32; T]; V] {
    let mut sums = [[simd.i32_splat(0); T]; V];
    for t in 0..T {
        let negated_sum = match M::TO_A_BLOCK {
            1 => x_scales[t].negated_sum,
            _ => -x_codes[t].0[16 * half..][..16].iter().map(|&code| i32::from(code)).sum::<i32>(),
        };
        let offset = negated_offset::<S, C>(simd, negated_sum);
        for v in 0..V {
            sums[v][t] = offset;
        }
    }
    let mut x = [&[0; 32]; T];
    for t in 0..T {
        x[t] = &x_codes[t].0;
    }
    let vectors = const { VECTORS / M::TO_A_BLOCK };
    let first = half * vectors;
    if are_biased::<S, C>(T) {
        return biased_products::<S, C, V, T>(simd, packed, parts, first..first + vectors, x, sums);
    }
    let run = const { run::<S, C>(VECTORS / M::TO_A_BLOCK) };
    for r in 0..vectors / run {
        let start = first + r * run;
        let products = products::<S, C, V, T>(simd, packed, parts, start..start + run, x);
        for v in 0..V {
            for t in 0..T {
                sums[v][t] = simd.dot_finish(sums[v][t], products[v][t]);
            }
        }
    }
    sums
}

/// The offset of the codes times the negated sum of activations: where a sum of products starts.
#[inline(always)]
fn negated_offset<S: Simd, C: Codes>(simd: S, negated_sum: i32) -> S::I32 {
    let Some(bits) = offset_bits::<S, C>() else { return simd.i32_splat(0) };
    simd.i32_shift_left(simd.i32_splat(negated_sum), bits)
}
