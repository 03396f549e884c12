//! The definition: what every vector operation computes, in plain arithmetic.

use half::{bf16, f16};

use super::Simd;

/// Portable code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    type F32 = [f32; 8];
    type I32 = [i32; 8];
    type Bytes = [u8; 32];
    type DotSum = [i32; 8];

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> [f32; 8] {
        *values
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 32]) -> [f32; 8] {
        std::array::from_fn(|i| f32::from_le_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 16]) -> [f32; 8] {
        std::array::from_fn(|i| f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 16]) -> [f32; 8] {
        std::array::from_fn(|i| bf16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32())
    }

    #[inline(always)]
    fn load_u8(self, bytes: [u8; 8]) -> [f32; 8] {
        bytes.map(f32::from)
    }

    #[inline(always)]
    fn store(self, vector: [f32; 8], values: &mut [f32; 8]) {
        *values = vector;
    }

    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn sum(self, v: [f32; 8]) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 32]) -> [u8; 32] {
        *bytes
    }

    #[inline(always)]
    fn splat4(self, bytes: [i8; 4]) -> [u8; 32] {
        std::array::from_fn(|i| bytes[i % 4] as u8)
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: [u8; 32]) -> [u8; 32] {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: [u8; 32]) -> [u8; 32] {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn bits_to_4(self, bytes: [u8; 32], from: u32, width: u32) -> [u8; 32] {
        bytes.map(|byte| ((byte >> from) & ((1 << width) - 1)) << 4)
    }

    #[inline(always)]
    fn or(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn dot_zero(self) -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn dot(self, sum: [i32; 8], weights: [u8; 32], x: [u8; 32]) -> [i32; 8] {
        std::array::from_fn(|lane| {
            (0..4).fold(sum[lane], |sum, i| {
                sum + i32::from(weights[4 * lane + i]) * i32::from(x[4 * lane + i] as i8)
            })
        })
    }

    #[inline(always)]
    fn dot_finish(self, sum: [i32; 8]) -> [i32; 8] {
        sum
    }

    #[inline(always)]
    fn dot_signed(self, weights: [u8; 32], x: [u8; 32]) -> [i32; 8] {
        std::array::from_fn(|lane| {
            (0..4).map(|i| i32::from(weights[4 * lane + i] as i8) * i32::from(x[4 * lane + i] as i8)).sum()
        })
    }

    #[inline(always)]
    fn i32_splat(self, value: i32) -> [i32; 8] {
        [value; 8]
    }

    #[inline(always)]
    fn i32_load_i8(self, bytes: [u8; 8]) -> [i32; 8] {
        bytes.map(|byte| i32::from(byte as i8))
    }

    #[inline(always)]
    fn i32_add(self, a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn i32_sub(self, a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
    }

    #[inline(always)]
    fn i32_mul(self, a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        std::array::from_fn(|i| a[i].wrapping_mul(b[i]))
    }

    #[inline(always)]
    fn i32_to_f32(self, a: [i32; 8]) -> [f32; 8] {
        a.map(|value| value as f32)
    }
}
