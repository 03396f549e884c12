//! Inputs of a matrix product: rows of floats, and the same quantized to bytes for the products with integer weights.
//!
//! Quantization is per token and per block of 32: `scale = max|x| / 127`, `code = round(x * (127 / max|x|))`, ties to
//! even. What a token's codes are depends on that token alone.

use crate::pool::Disjoint;
use crate::simd::simd_fn;
use crate::{Kernels, WeightType};

/// The sums that a block's offset and minimum need.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BlockSums {
    /// `max|x| / 127`
    pub(crate) scale: f32,
    /// `scale` times the sum of all 32 codes.
    pub(crate) scaled_sum: f32,
    /// Sums of the codes of the two halves.
    pub(crate) halves: [i32; 2],
}

/// The rows that a matrix is multiplied with: `tokens` rows of `columns` values. Buffers are reused.
#[derive(Debug, Default)]
pub struct Activations {
    tokens: usize,
    columns: usize,
    values: Vec<f32>,
    codes: Vec<[i8; 32]>,
    sums: Vec<BlockSums>,
}

impl Activations {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Length of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Makes room for `tokens` rows of `columns` values and returns them for writing, row-major. Call
    /// [`Activations::quantize`] afterwards if a quantized matrix will be multiplied with them.
    pub fn reset(&mut self, tokens: usize, columns: usize) -> &mut [f32] {
        (self.tokens, self.columns) = (tokens, columns);
        self.values.resize(tokens * columns, 0.0);
        &mut self.values
    }

    /// Quantizes the rows, if `weight_type` is multiplied in integers.
    ///
    /// # Panics
    /// If it is, and rows are not whole blocks of 32.
    pub fn quantize(&mut self, kernels: &Kernels, weight_type: WeightType) {
        if !weight_type.is_quantized() || self.values.is_empty() {
            return;
        }
        assert!(self.columns.is_multiple_of(32), "quantized rows are whole blocks of 32");
        let blocks = self.columns / 32;
        self.codes.resize(self.tokens * blocks, [0; 32]);
        self.sums.resize(self.tokens * blocks, BlockSums::default());
        let (values, columns) = (&self.values, self.columns);
        let codes = Disjoint::new(&mut self.codes);
        let sums = Disjoint::new(&mut self.sums);
        kernels.run(self.tokens, columns, |_, token| {
            let row = &values[token * columns..][..columns];
            // SAFETY: each task writes its own token's blocks.
            let (codes, sums) =
                unsafe { (codes.part(token * blocks, blocks), sums.part(token * blocks, blocks)) };
            quantize_row(kernels.isa(), row, codes, sums);
        });
    }

    /// Row `token`.
    pub(crate) fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.columns..][..self.columns]
    }

    /// Codes and sums of row `token`, by block.
    pub(crate) fn quantized_row(&self, token: usize) -> (&[[i8; 32]], &[BlockSums]) {
        let blocks = self.columns / 32;
        (&self.codes[token * blocks..][..blocks], &self.sums[token * blocks..][..blocks])
    }
}

simd_fn! {
    /// Plain Rust, which is not reordered: compiled for any instruction set, the bits are the same.
    fn quantize_row(_simd, row: &[f32], codes: &mut [[i8; 32]], sums: &mut [BlockSums]) {
        for ((x, codes), sums) in row.as_chunks::<32>().0.iter().zip(codes).zip(sums) {
            *sums = quantize_block(x, codes);
        }
    }
}

/// Adding 1.5 * 2^23 rounds a small float to an integer, ties to even, and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn quantize_block(x: &[f32; 32], codes: &mut [i8; 32]) -> BlockSums {
    let mut largest = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for i in 0..8 {
            let magnitude = x[i].abs();
            largest[i] = if magnitude > largest[i] { magnitude } else { largest[i] };
        }
    }
    let largest = largest.iter().fold(0.0f32, |a, &b| if b > a { b } else { a });
    let scale = largest / 127.0;
    // Blocks of zeros, and of values so small that the inverse would overflow.
    if scale < f32::MIN_POSITIVE {
        *codes = [0; 32];
        return BlockSums::default();
    }
    let inverse = 127.0 / largest;
    let mut halves = [0i32; 2];
    for half in 0..2 {
        for i in 0..16 {
            let code = (x[16 * half + i] * inverse + ROUND).to_bits() as i8;
            codes[16 * half + i] = code;
            halves[half] += i32::from(code);
        }
    }
    BlockSums { scale, scaled_sum: scale * (halves[0] + halves[1]) as f32, halves }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_code_is_the_value_over_the_scale_rounded_to_even(
            x in prop::array::uniform32(prop_oneof![-1e3f32..1e3, -1e-3f32..1e-3, Just(0.0), Just(-0.0)])
        ) {
            let mut codes = [0; 32];
            let sums = quantize_block(&x, &mut codes);
            let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            prop_assert_eq!(sums.scale, largest / 127.0);
            for (x, code) in x.iter().zip(codes) {
                let expected = if largest == 0.0 { 0.0 } else { (x * (127.0 / largest)).round_ties_even() };
                prop_assert_eq!(f32::from(code), expected + 0.0);
            }
            prop_assert_eq!(sums.halves[0], codes[..16].iter().map(|&c| i32::from(c)).sum::<i32>());
            prop_assert_eq!(sums.halves[1], codes[16..].iter().map(|&c| i32::from(c)).sum::<i32>());
        }
    }

    #[test]
    fn blocks_too_small_to_scale_become_zeros() {
        let mut codes = [1; 32];
        assert_eq!(quantize_block(&[1e-40; 32], &mut codes), BlockSums::default());
        assert_eq!(codes, [0; 32]);
    }
}
