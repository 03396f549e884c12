//! The definition: what every vector operation computes, in plain arithmetic.

use std::array::from_fn;

use half::{bf16, f16};

use super::vector::{GROUP, Simd};

/// Portable code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

/// Little-endian words of two bytes.
#[inline(always)]
fn words(bytes: &[u8; 2 * GROUP]) -> [u16; GROUP] {
    from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}

/// The sum of four products of a byte of `weights` and a signed byte of `x`, lane by lane.
#[inline(always)]
fn dot4(weights: [i32; 4 * GROUP], x: &[u8; 4 * GROUP]) -> [i32; GROUP] {
    from_fn(|i| (4 * i..4 * i + 4).map(|j| weights[j] * i32::from(x[j] as i8)).sum())
}

impl Simd for Scalar {
    const LANES: usize = GROUP;
    const WIDE_DOT: bool = true;
    const BIAS: i32 = 0;
    const LIGHT_TILES: &'static [usize] = &[1];
    const TILE_VECTORS: usize = 1;
    const TILES: &'static [usize] = &[4];

    type F32 = [f32; GROUP];
    type I32 = [i32; GROUP];
    type Bytes = [u8; 4 * GROUP];
    type Dot = [i32; GROUP];
    type Factor = [i32; GROUP];

    #[inline(always)]
    fn prefetch(self, _: &[u8], _: usize) {}

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; GROUP]
    }

    #[inline(always)]
    fn load(self, values: &[f32; GROUP], _: usize) -> Self::F32 {
        *values
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * GROUP], _: usize) -> Self::F32 {
        from_fn(|i| f32::from_le_bytes(from_fn(|j| bytes[4 * i + j])))
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * GROUP], _: usize) -> Self::F32 {
        words(bytes).map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 2 * GROUP], _: usize) -> Self::F32 {
        words(bytes).map(|bits| bf16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store(self, vector: Self::F32, values: &mut [f32; GROUP], _: usize) {
        *values = vector;
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * GROUP], _: usize) -> Self::Bytes {
        *bytes
    }

    #[inline(always)]
    fn splat4(self, bytes: [i8; 4]) -> Self::Bytes {
        from_fn(|i| bytes[i % 4] as u8)
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], indices: Self::Bytes) -> Self::Bytes {
        indices.map(|index| table[usize::from(index & 15)])
    }

    #[inline(always)]
    fn bits(self, bytes: Self::Bytes, from: u32, width: u32, to: u32) -> Self::Bytes {
        bytes.map(|byte| (byte >> from & ((1 << width) - 1)) << to)
    }

    #[inline(always)]
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn dot_zero(self) -> Self::Dot {
        [0; GROUP]
    }

    #[inline(always)]
    fn dot(self, sum: Self::Dot, weights: Self::Bytes, x: Self::Bytes) -> Self::Dot {
        self.i32_add(sum, dot4(weights.map(i32::from), &x))
    }

    #[inline(always)]
    fn dot_finish(self, sum: Self::I32, products: Self::Dot) -> Self::I32 {
        self.i32_add(sum, products)
    }

    #[inline(always)]
    fn factor(self, biased: Self::Bytes, byte: u32) -> Self::Factor {
        from_fn(|lane| i32::from(biased[4 * lane + byte as usize]) - 128)
    }

    #[inline(always)]
    fn dot_scale(self, sum: Self::I32, products: Self::Dot, factor: Self::Factor) -> Self::I32 {
        from_fn(|i| sum[i].wrapping_add(products[i].wrapping_mul(factor[i])))
    }

    #[inline(always)]
    fn i32_scale(self, sum: Self::I32, products: Self::I32, factor: Self::Factor) -> Self::I32 {
        self.dot_scale(sum, products, factor)
    }

    #[inline(always)]
    fn dot_biased(self, sum: Self::I32, biased: Self::Bytes, x: Self::Bytes) -> Self::I32 {
        self.i32_add(sum, dot4(biased.map(|byte| i32::from(byte) - 128), &x))
    }

    #[inline(always)]
    fn i32_splat(self, value: i32) -> Self::I32 {
        [value; GROUP]
    }

    #[inline(always)]
    fn i32_load_i8(self, bytes: &[u8; GROUP], _: usize) -> Self::I32 {
        bytes.map(|byte| i32::from(byte as i8))
    }

    #[inline(always)]
    fn i32_add(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn i32_shift_left(self, a: Self::I32, bits: u32) -> Self::I32 {
        a.map(|value| value << bits)
    }

    #[inline(always)]
    fn i32_to_f32(self, a: Self::I32) -> Self::F32 {
        a.map(|value| value as f32)
    }
}
