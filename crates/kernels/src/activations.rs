//! Inputs of a matrix product: rows of floats, and the same quantized to bytes for the products with integer weights.
//!
//! Quantization is per token and per block, of 32 columns or, for K-quants, of 256: `scale = max|x| / 127`, `code = round(x * (127 / max|x|))`,
//! ties to even. What a token's codes are depends on that token alone.

use std::ops::BitOr;

use crate::disjoint::{Disjoint, DisjointRows};
use crate::kernels::Kernels;
use crate::simd::simd_fn;

/// The most tokens that a kernel takes at once.
pub(crate) const MAX_TILE: usize = 16;

/// The codes of 32 values of a row. They lie in one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(32))]
pub(crate) struct BlockCodes(pub(crate) [i8; 32]);

/// What else is known of these values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BlockScale {
    /// `max|x| / 127`
    pub(crate) scale: f32,
    /// `scale` times the sum of all codes.
    pub(crate) scaled_sum: f32,
    /// The sum of all codes, negated: as an offset of the weights needs it.
    pub(crate) negated_sum: i32,
}

/// The codes of 256 values of a row. They are four cache lines.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct SuperBlockCodes(pub(crate) [i8; 256]);

impl Default for SuperBlockCodes {
    fn default() -> Self {
        Self([0; 256])
    }
}

/// What else is known of these values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SuperBlockScale {
    /// `max|x| / 127`
    pub(crate) scale: f32,
    /// The sum of all codes.
    pub(crate) sum: i32,
    /// The sums of the codes of each 32 columns, negated: as minima and offsets of the weights need them.
    pub(crate) negated_block_sums: SplitSums<8>,
    /// The sums of the codes of each 16 columns, negated.
    pub(crate) negated_half_sums: SplitSums<16>,
}

impl SuperBlockScale {
    /// The negated sums of each 32 columns, or of each 16 where there are two `to_a_block`: their low and high bytes.
    #[inline(always)]
    pub(crate) fn negated_sums(&self, to_a_block: usize) -> [&[i8]; 2] {
        match to_a_block {
            1 => [&self.negated_block_sums.low, &self.negated_block_sums.high],
            _ => [&self.negated_half_sums.low, &self.negated_half_sums.high],
        }
    }
}

/// A sum is `(high << SPLIT_BITS) + low`.
pub(crate) const SPLIT_BITS: u32 = 6;

/// Sums of at most 32 codes in two bytes each, for products of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SplitSums<const N: usize> {
    pub(crate) high: [i8; N],
    /// Not negative.
    pub(crate) low: [i8; N],
}

impl<const N: usize> Default for SplitSums<N> {
    fn default() -> Self {
        Self { high: [0; N], low: [0; N] }
    }
}

/// Which quantized forms of its input a product needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputCodes {
    blocks: bool,
    super_blocks: bool,
}

impl InputCodes {
    /// None: the weights are floats.
    pub const NONE: Self = Self { blocks: false, super_blocks: false };
    /// Of 32 columns.
    pub(crate) const BLOCKS: Self = Self { blocks: true, super_blocks: false };
    /// Of 256 columns.
    pub(crate) const SUPER_BLOCKS: Self = Self { blocks: false, super_blocks: true };

    /// Whether it needs blocks of 32 columns.
    pub fn blocks(self) -> bool {
        self.blocks
    }

    /// Whether it needs blocks of 256 columns.
    pub fn super_blocks(self) -> bool {
        self.super_blocks
    }
}

impl BitOr for InputCodes {
    type Output = Self;

    /// What either needs.
    fn bitor(self, other: Self) -> Self {
        Self { blocks: self.blocks | other.blocks, super_blocks: self.super_blocks | other.super_blocks }
    }
}

/// The rows that a matrix is multiplied with: `tokens` rows of `columns` values. Buffers are reused.
#[derive(Debug, Default)]
pub struct Activations {
    tokens: usize,
    columns: usize,
    values: Vec<f32>,
    /// Of 32 columns.
    blocks: Blocks<BlockCodes, BlockScale>,
    /// Of 256 columns.
    super_blocks: Blocks<SuperBlockCodes, SuperBlockScale>,
}

/// Quantized rows: `[block][token]`, so that a tile of tokens lies together. Filled up by a tile.
#[derive(Debug, Default)]
struct Blocks<C, K> {
    codes: Vec<C>,
    scales: Vec<K>,
}

impl<C: Copy + Default, K: Copy + Default> Blocks<C, K> {
    fn resize(&mut self, len: usize) {
        self.codes.resize(len + MAX_TILE, C::default());
        self.scales.resize(len + MAX_TILE, K::default());
    }

    #[inline(always)]
    fn tile<const T: usize>(&self, first: usize) -> (&[C; T], &[K; T]) {
        const { assert!(T <= MAX_TILE, "the blocks are filled up by so many") };
        let codes = self.codes[first..].first_chunk().expect("a row, quantized");
        (codes, self.scales[first..].first_chunk().expect("a row, quantized"))
    }
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
    /// same row of each of `sources` (values, and how many a row). The rows are quantized as well, as `codes` says.
    /// `row_work` is what `f` takes, in multiply-adds.
    ///
    /// # Panics
    /// If a source has not `tokens` rows, or rows are not whole blocks of what `codes` asks for.
    pub fn compute<const N: usize>(
        &mut self,
        kernels: &Kernels,
        [tokens, columns]: [usize; 2],
        codes: InputCodes,
        sources: [(&mut [f32], usize); N],
        row_work: usize,
        f: impl Fn(usize, [&mut [f32]; N], &mut [f32]) + Sync,
    ) {
        (self.tokens, self.columns) = (tokens, columns);
        self.values.resize(tokens * columns, 0.0);
        let blocks_of = |is_needed: bool, width: usize| {
            assert!(
                !is_needed || columns.is_multiple_of(width),
                "quantized rows are whole blocks of {width}"
            );
            if is_needed { columns / width } else { 0 }
        };
        let (blocks, super_blocks) = (blocks_of(codes.blocks, 32), blocks_of(codes.super_blocks, 256));
        let quantizing = 32 * blocks + 256 * super_blocks;
        self.blocks.resize(blocks * tokens);
        self.super_blocks.resize(super_blocks * tokens);
        let sources = DisjointRows::new(sources, tokens);
        let values = Disjoint::new(&mut self.values);
        let blocks = SharedBlocks::new(&mut self.blocks, tokens);
        let super_blocks = SharedBlocks::new(&mut self.super_blocks, tokens);
        kernels.run_rows(tokens, row_work + quantizing, |token| {
            // SAFETY: each token's rows are handed out once.
            let (sources, row) = unsafe { (sources.row(token), values.part(token * columns, columns)) };
            f(token, sources, row);
            if codes.blocks {
                quantize_blocks(kernels.isa(), row, &TokenBlocks { all: &blocks, token });
            }
            if codes.super_blocks {
                quantize_super_blocks(kernels.isa(), row, &TokenBlocks { all: &super_blocks, token });
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
    pub(crate) fn blocks<const T: usize>(
        &self,
        block: usize,
        token: usize,
    ) -> (&[BlockCodes; T], &[BlockScale; T]) {
        self.blocks.tile(block * self.tokens + token)
    }

    /// As [`Activations::blocks`], of 256 columns.
    #[inline(always)]
    pub(crate) fn super_blocks<const T: usize>(
        &self,
        block: usize,
        token: usize,
    ) -> (&[SuperBlockCodes; T], &[SuperBlockScale; T]) {
        self.super_blocks.tile(block * self.tokens + token)
    }
}

/// Blocks that tasks write, each those of its token.
struct SharedBlocks<'a, C, K> {
    codes: Disjoint<'a, C>,
    scales: Disjoint<'a, K>,
    tokens: usize,
}

impl<'a, C, K> SharedBlocks<'a, C, K> {
    fn new(blocks: &'a mut Blocks<C, K>, tokens: usize) -> Self {
        Self { codes: Disjoint::new(&mut blocks.codes), scales: Disjoint::new(&mut blocks.scales), tokens }
    }
}

/// The blocks of one token, which one thread writes.
struct TokenBlocks<'a, C, K> {
    all: &'a SharedBlocks<'a, C, K>,
    token: usize,
}

impl<C, K> TokenBlocks<'_, C, K> {
    #[inline(always)]
    fn store(&self, block: usize, (codes, scale): (C, K)) {
        let at = block * self.all.tokens + self.token;
        // SAFETY: a token's blocks are written through the only `TokenBlocks` of it.
        unsafe {
            self.all.codes.part(at, 1)[0] = codes;
            self.all.scales.part(at, 1)[0] = scale;
        }
    }
}

simd_fn! {
    /// Quantizes a row in blocks of 32.
    ///
    /// Plain Rust, which is not reordered: compiled for any instruction set, the bits are the same.
    fn quantize_blocks(_simd, row: &[f32], blocks: &TokenBlocks<'_, BlockCodes, BlockScale>) {
        for (index, x) in row.as_chunks::<32>().0.iter().enumerate() {
            blocks.store(index, quantize_block(x));
        }
    }
}

simd_fn! {
    /// As [`quantize_blocks`], in blocks of 256.
    fn quantize_super_blocks(_simd, row: &[f32], blocks: &TokenBlocks<'_, SuperBlockCodes, SuperBlockScale>) {
        for (index, x) in row.as_chunks::<256>().0.iter().enumerate() {
            blocks.store(index, quantize_super_block(x));
        }
    }
}

/// Adding 1.5 * 2^23 rounds a small float to an integer, ties to even, and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

/// The scale of values and what they are multiplied with to become codes; none of zeros, and of values so small that the inverse would
/// overflow.
#[inline(always)]
fn scale_and_inverse(x: &[f32]) -> Option<(f32, f32)> {
    let mut largest = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for i in 0..8 {
            let magnitude = x[i].abs();
            largest[i] = if magnitude > largest[i] { magnitude } else { largest[i] };
        }
    }
    let largest = largest.iter().fold(0.0f32, |a, &b| if b > a { b } else { a });
    let scale = largest / 127.0;
    if scale < f32::MIN_POSITIVE { None } else { Some((scale, 127.0 / largest)) }
}

/// Writes the codes of sixteen values and returns their sum.
#[inline(always)]
fn quantize_half(x: &[f32; 16], inverse: f32, codes: &mut [i8; 16]) -> i32 {
    let mut sum = 0;
    for i in 0..16 {
        let code = (x[i] * inverse + ROUND).to_bits() as i8;
        codes[i] = code;
        sum += i32::from(code);
    }
    sum
}

#[inline(always)]
fn quantize_block(x: &[f32; 32]) -> (BlockCodes, BlockScale) {
    let mut codes = BlockCodes::default();
    let Some((scale, inverse)) = scale_and_inverse(x) else { return (codes, BlockScale::default()) };
    let mut sum = 0;
    for (x, codes) in x.as_chunks().0.iter().zip(codes.0.as_chunks_mut().0) {
        sum += quantize_half(x, inverse, codes);
    }
    (codes, BlockScale { scale, scaled_sum: scale * sum as f32, negated_sum: -sum })
}

#[inline(always)]
fn quantize_super_block(x: &[f32; 256]) -> (SuperBlockCodes, SuperBlockScale) {
    let (mut codes, mut sums) = (SuperBlockCodes::default(), SuperBlockScale::default());
    let Some((scale, inverse)) = scale_and_inverse(x) else { return (codes, sums) };
    sums.scale = scale;
    let mut negated_sums = [0; 16];
    for (half, (x, codes)) in x.as_chunks().0.iter().zip(codes.0.as_chunks_mut().0).enumerate() {
        let sum = quantize_half(x, inverse, codes);
        sums.sum += sum;
        negated_sums[half] = -sum;
    }
    for half in 0..16 {
        sums.negated_half_sums.put(half, negated_sums[half]);
    }
    for block in 0..8 {
        sums.negated_block_sums.put(block, negated_sums[2 * block] + negated_sums[2 * block + 1]);
    }
    (codes, sums)
}

impl<const N: usize> SplitSums<N> {
    #[inline(always)]
    fn put(&mut self, index: usize, sum: i32) {
        // At most 32 * 127 = 4,064 = 63.5 * 2^6.
        self.high[index] = (sum >> SPLIT_BITS) as i8;
        self.low[index] = (sum & ((1 << SPLIT_BITS) - 1)) as i8;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a code is.
    fn code(x: f32, largest: f32) -> f32 {
        if largest == 0.0 { 0.0 } else { (x * (127.0 / largest)).round_ties_even() + 0.0 }
    }

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![-1e3f32..1e3, -1e-3f32..1e-3, Just(0.0), Just(-0.0)]
    }

    fn sum(codes: &[i8]) -> i32 {
        codes.iter().map(|&code| i32::from(code)).sum()
    }

    proptest! {
        #[test]
        fn a_code_is_the_value_over_the_scale_rounded_to_even(x in prop::array::uniform32(value())) {
            let (codes, found) = quantize_block(&x);
            let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            prop_assert_eq!(found.scale, largest / 127.0);
            for (x, found) in x.iter().zip(codes.0) {
                prop_assert_eq!(f32::from(found), code(*x, largest));
            }
            prop_assert_eq!(found.scaled_sum, found.scale * sum(&codes.0) as f32);
            prop_assert_eq!(found.negated_sum, -sum(&codes.0));
        }

        #[test]
        fn super_blocks_have_one_scale_and_the_sums_of_their_blocks(x in prop::collection::vec(value(), 256)) {
            let (codes, found) = quantize_super_block(x.first_chunk().unwrap());
            let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            prop_assert_eq!(found.scale, largest / 127.0);
            for (x, found) in x.iter().zip(codes.0) {
                prop_assert_eq!(f32::from(found), code(*x, largest));
            }
            prop_assert_eq!(found.sum, sum(&codes.0));
            let joined = |high: i8, low: i8| (i32::from(high) << SPLIT_BITS) + i32::from(low);
            for (i, codes) in codes.0.chunks(16).enumerate() {
                let sums = found.negated_half_sums;
                prop_assert_eq!(joined(sums.high[i], sums.low[i]), -sum(codes));
            }
            for (i, codes) in codes.0.chunks(32).enumerate() {
                let sums = found.negated_block_sums;
                prop_assert!(sums.low[i] >= 0);
                prop_assert_eq!(joined(sums.high[i], sums.low[i]), -sum(codes));
            }
        }
    }

    #[test]
    fn the_greatest_sums_can_be_split() {
        for sign in [1.0, -1.0] {
            let (_, found) = quantize_super_block(&[sign; 256]);
            let sums = found.negated_block_sums;
            assert_eq!(
                (i32::from(sums.high[7]) << SPLIT_BITS) + i32::from(sums.low[7]),
                -32 * 127 * sign as i32
            );
        }
    }

    #[test]
    fn blocks_too_small_to_scale_become_zeros() {
        assert_eq!(quantize_block(&[1e-40; 32]), Default::default());
        assert_eq!(quantize_super_block(&[1e-40; 256]), Default::default());
    }
}
