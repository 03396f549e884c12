//! The vector trait that kernels are generic over and each instruction set implements.
//!
//! The lanes of a vector are always independent results (rows of a matrix, rows or dimensions of a KV cache), never parts
//! of one sum: so its width, eight or sixteen lanes, has no influence on any result. What lies in memory is interleaved
//! by [`GROUP`]; a narrower vector takes a *part* of a group.
//!
//! A [`Simd`] value is a token of proof: a value of an instruction set's type exists only after its detection, so that
//! the safe methods of the trait may use its instructions.

/// Values that lie interleaved in memory: one to a lane of the widest vector.
pub(crate) const GROUP: usize = 16;

/// Vectors to a group at most.
pub(crate) const MAX_PARTS: usize = 2;

/// The first of `values`.
///
/// # Panics
/// If there are too few, which the layouts rule out: where a kernel knows the size of a block, no check is left of it.
#[inline(always)]
pub(crate) fn first<T, const N: usize>(values: &[T]) -> &[T; N] {
    values.first_chunk().expect("a layout holds all that a kernel reads")
}

/// Vector operations of one instruction set. Loads and stores take a whole group and the part of it that is meant.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Lanes of a vector: divides [`GROUP`].
    const LANES: usize;
    /// Vectors to a group.
    const PARTS: usize = GROUP / Self::LANES;
    /// Whether [`Simd::dot`] keeps its sums in 32 bits, so that any number of calls may come before
    /// [`Simd::dot_finish`].
    const WIDE_DOT: bool;
    /// What [`Simd::dot_biased`] adds to each weight.
    const BIAS: i32;
    /// Whether there are products of pairs of tokens: [`Simd::dot_pair`].
    const PAIRS: bool = false;
    /// The numbers of tokens of an integer product whose limit is memory, not arithmetic.
    const LIGHT_TILES: &'static [usize];
    /// Vectors of rows that a product takes at once where arithmetic is the limit…
    const TILE_VECTORS: usize;
    /// …and the numbers of tokens that it takes with them: the last is the most whose sums stay in registers.
    const TILES: &'static [usize];

    /// Lanes of `f32`.
    type F32: Copy;
    /// Lanes of `i32`.
    type I32: Copy;
    /// Lanes of four bytes, signed or unsigned as the operation says.
    type Bytes: Copy;
    /// Partial sums of byte products on their way to `i32` lanes.
    type Dot: Copy;
    /// Small integer factors of such sums.
    type Factor: Copy;

    /// Asks for the cache line at `at` bytes behind the start of `bytes`, which may lie beyond its end. A hint.
    fn prefetch(self, bytes: &[u8], at: usize);

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::F32;
    /// Floats.
    fn load(self, values: &[f32; GROUP], part: usize) -> Self::F32;
    /// Little-endian singles.
    fn load_f32(self, bytes: &[u8; 4 * GROUP], part: usize) -> Self::F32;
    /// Little-endian halves, widened exactly.
    fn load_f16(self, bytes: &[u8; 2 * GROUP], part: usize) -> Self::F32;
    /// Little-endian bfloat16, widened exactly.
    fn load_bf16(self, bytes: &[u8; 2 * GROUP], part: usize) -> Self::F32;
    /// Writes the part.
    fn store(self, vector: Self::F32, values: &mut [f32; GROUP], part: usize);
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a` where it is greater than `b`, else `b`.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// Four bytes a lane.
    fn load_bytes(self, bytes: &[u8; 4 * GROUP], part: usize) -> Self::Bytes;
    /// Four signed bytes, the same in every lane.
    fn splat4(self, bytes: [i8; 4]) -> Self::Bytes;
    /// The lower four bits of each byte.
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// The upper four bits of each byte, shifted down.
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// Of each byte the `width` bits from bit `from` on, moved to bit `to`.
    fn bits(self, bytes: Self::Bytes, from: u32, width: u32, to: u32) -> Self::Bytes;
    /// For each byte, which is below 16, the one of `table` with that index.
    fn look_up(self, table: &[u8; 16], indices: Self::Bytes) -> Self::Bytes;
    /// `a | b`
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// No products yet.
    fn dot_zero(self) -> Self::Dot;
    /// Adds the products of unsigned `weights` and signed `x` to `sum`, four neighbours to a lane.
    ///
    /// Unless [`Simd::WIDE_DOT`], pairs are summed in 16 bits, so that the caller bounds how many products meet before
    /// [`Simd::dot_finish`]: `calls * 2 * max(weights) * 127 <= i16::MAX`.
    fn dot(self, sum: Self::Dot, weights: Self::Bytes, x: Self::Bytes) -> Self::Dot;
    /// `sum` and the exact sums of products.
    fn dot_finish(self, sum: Self::I32, products: Self::Dot) -> Self::I32;
    /// The factors `byte - 128` of byte `byte` (below 4) of each lane of `biased`.
    fn factor(self, biased: Self::Bytes, byte: u32) -> Self::Factor;
    /// `sum` and the exact sums of products, these times `factor`.
    fn dot_scale(self, sum: Self::I32, products: Self::Dot, factor: Self::Factor) -> Self::I32;
    /// `sum + products * factor`
    fn i32_scale(self, sum: Self::I32, products: Self::I32, factor: Self::Factor) -> Self::I32;
    /// Adds to `sum` the products of signed `x` in `-127..=127` and the weights `byte - 128 + BIAS` of `biased`, four
    /// neighbours to a lane. What the bias adds is the caller's to take off.
    fn dot_biased(self, sum: Self::I32, biased: Self::Bytes, x: Self::Bytes) -> Self::I32;
    /// Adds to the sums of two tokens the products of `x`, eight columns of each, and `weights`, four of these columns and the
    /// next four: unsigned, or `byte - 128` if `biased`. The sums have an order of their own until [`Simd::pair_finish`].
    fn dot_pair(
        self,
        _sums: [Self::Dot; 2],
        _weights: [Self::Bytes; 2],
        _biased: bool,
        _x: [&[i8; 8]; 2],
    ) -> [Self::Dot; 2] {
        unreachable!("there are no products of pairs")
    }
    /// The sums of two tokens, in the order of [`Simd::dot`].
    fn pair_finish(self, _sums: [Self::Dot; 2]) -> [Self::Dot; 2] {
        unreachable!("there are no products of pairs")
    }

    /// `value` in every lane.
    fn i32_splat(self, value: i32) -> Self::I32;
    /// Signed bytes, widened.
    fn i32_load_i8(self, bytes: &[u8; GROUP], part: usize) -> Self::I32;
    /// `a + b`
    fn i32_add(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a << bits`, `bits` below 32.
    fn i32_shift_left(self, a: Self::I32, bits: u32) -> Self::I32;
    /// The nearest floats, ties to even.
    fn i32_to_f32(self, a: Self::I32) -> Self::F32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_are_those_of_a_longer_slice() {
        assert_eq!(first(&[1, 2, 3]), &[1, 2]);
    }

    #[test]
    #[should_panic(expected = "a layout holds all that a kernel reads")]
    fn values_that_are_missing_are_not_read_as_zeros() {
        let _: &[u8; 4] = first(&[1, 2, 3]);
    }
}
