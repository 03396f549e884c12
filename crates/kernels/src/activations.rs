//! Inputs of a matrix product: rows of floats, and the same quantized to bytes for the products with integer weights.
//!
//! Quantization is per token and per block of 32: `scale = max|x| / 127`, `code = round(x * (127 / max|x|))`, ties to
//! even. What a token's codes are depends on that token alone.

use crate::disjoint::{Disjoint, DisjointRows};
use crate::kernels::Kernels;
use crate::simd::simd_fn;

/// The most tokens that a kernel takes at once.
pub(crate) const MAX_TILE: usize = 6;

/// 32 values of a row, quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Quantized {
    pub(crate) codes: [i8; 32],
    /// `max|x| / 127`
    pub(crate) scale: f32,
    /// `scale` times the sum of all codes.
    pub(crate) scaled_sum: f32,
    /// The sum of all codes, negated: as an offset of the weights needs it.
    pub(crate) negated_sum: i32,
    /// The same of the first 16 codes.
    pub(crate) negated_first_half: i32,
}

/// The rows that a matrix is multiplied with: `tokens` rows of `columns` values. Buffers are reused.
#[derive(Debug, Default)]
pub struct Activations {
    tokens: usize,
    columns: usize,
    values: Vec<f32>,
    /// `[block][token]`: a tile of tokens lies together. Filled up by a tile.
    quantized: Vec<Quantized>,
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

    /// Makes `tokens` rows of `columns` values: `f(token, sources, row)` writes row `token`, reading or changing the
    /// same row of each of `sources` (values, and how many a row). With `codes`, the rows are quantized as well, as
    /// matrices of integers need it. `row_work` is what `f` takes, in multiply-adds.
    ///
    /// # Panics
    /// If a source has not `tokens` rows, or, with `codes`, rows are not whole blocks of 32.
    pub fn compute<const N: usize>(
        &mut self,
        kernels: &Kernels,
        [tokens, columns]: [usize; 2],
        codes: bool,
        sources: [(&mut [f32], usize); N],
        row_work: usize,
        f: impl Fn(usize, [&mut [f32]; N], &mut [f32]) + Sync,
    ) {
        assert!(!codes || columns.is_multiple_of(32), "quantized rows are whole blocks of 32");
        (self.tokens, self.columns) = (tokens, columns);
        self.values.resize(tokens * columns, 0.0);
        let blocks = if codes { columns / 32 } else { 0 };
        self.quantized.resize(blocks * tokens + MAX_TILE, Quantized::default());
        let sources = DisjointRows::new(sources, tokens);
        let values = Disjoint::new(&mut self.values);
        let quantized = Disjoint::new(&mut self.quantized);
        kernels.run(tokens, row_work + blocks * 32, |_, token| {
            // SAFETY: each task has its own token's rows.
            let (sources, row) = unsafe { (sources.row(token), values.part(token * columns, columns)) };
            f(token, sources, row);
            if codes {
                quantize_row(kernels.isa(), row, &TokenBlocks { all: &quantized, tokens, token });
            }
        });
    }

    /// Row `token`, in floats.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.columns..][..self.columns]
    }

    /// Block `block` of `T` tokens from `token` on. What lies behind the last token is anything.
    #[inline(always)]
    pub(crate) fn quantized<const T: usize>(&self, block: usize, token: usize) -> &[Quantized; T] {
        const { assert!(T <= MAX_TILE, "the blocks are filled up by so many") };
        self.quantized[block * self.tokens + token..].first_chunk().expect("a row, quantized")
    }
}

/// The blocks of one token, which one task writes.
struct TokenBlocks<'a> {
    all: &'a Disjoint<'a, Quantized>,
    tokens: usize,
    token: usize,
}

impl TokenBlocks<'_> {
    #[inline(always)]
    fn store(&self, block: usize, quantized: Quantized) {
        // SAFETY: a token's blocks are written by its task alone, which has the only `TokenBlocks` of it.
        unsafe { self.all.part(block * self.tokens + self.token, 1)[0] = quantized };
    }
}

simd_fn! {
    /// Quantizes a row.
    ///
    /// Plain Rust, which is not reordered: compiled for any instruction set, the bits are the same.
    fn quantize_row(_simd, row: &[f32], blocks: &TokenBlocks<'_>) {
        for (index, x) in row.as_chunks::<32>().0.iter().enumerate() {
            blocks.store(index, quantize_block(x));
        }
    }
}

/// Adding 1.5 * 2^23 rounds a small float to an integer, ties to even, and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn quantize_block(x: &[f32; 32]) -> Quantized {
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
        return Quantized::default();
    }
    let inverse = 127.0 / largest;
    let mut codes = [0; 32];
    let mut halves = [0i32; 2];
    for half in 0..2 {
        for i in 0..16 {
            let code = (x[16 * half + i] * inverse + ROUND).to_bits() as i8;
            codes[16 * half + i] = code;
            halves[half] += i32::from(code);
        }
    }
    let sum = halves[0] + halves[1];
    Quantized {
        codes,
        scale,
        scaled_sum: scale * sum as f32,
        negated_sum: -sum,
        negated_first_half: -halves[0],
    }
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
            let found = quantize_block(&x);
            let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            prop_assert_eq!(found.scale, largest / 127.0);
            for (x, code) in x.iter().zip(found.codes) {
                let expected = if largest == 0.0 { 0.0 } else { (x * (127.0 / largest)).round_ties_even() };
                prop_assert_eq!(f32::from(code), expected + 0.0);
            }
            let sum = |codes: &[i8]| codes.iter().map(|&code| i32::from(code)).sum::<i32>();
            prop_assert_eq!(found.scaled_sum, found.scale * sum(&found.codes) as f32);
            prop_assert_eq!(found.negated_sum, -sum(&found.codes));
            prop_assert_eq!(found.negated_first_half, -sum(&found.codes[..16]));
        }
    }

    #[test]
    fn blocks_too_small_to_scale_become_zeros() {
        assert_eq!(quantize_block(&[1e-40; 32]), Quantized::default());
    }
}
