//! NEON, which every 64-bit ARM CPU has; the same with the byte dot product (ARMv8.2 DotProd: servers since 2019, Apple M1); and with
//! the byte matrix product beside it (ARMv8.6 I8MM: servers since 2021, Apple M2).
//!
//! A vector is a pair of registers: eight lanes, as with AVX2, keep sixteen independent sums in flight.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::vector::{GROUP, Simd};

/// Proof that the CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

/// Proof that the CPU has NEON and DotProd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonDot(());

/// Proof that the CPU has NEON, DotProd and I8MM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonMatrix(());

impl Neon {
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

impl NeonDot {
    pub(crate) fn detect() -> Option<Self> {
        (Neon::detect().is_some() && is_aarch64_feature_detected!("dotprod")).then_some(Self(()))
    }
}

impl NeonMatrix {
    pub(crate) fn detect() -> Option<Self> {
        (NeonDot::detect().is_some() && is_aarch64_feature_detected!("i8mm")).then_some(Self(()))
    }
}

/// The pointer to part `part` of a group.
#[inline(always)]
fn part_of<T, const N: usize>(group: &[T; N], part: usize) -> *const T {
    group[part * (N / 2)..][..N / 2].as_ptr()
}

/// `$operation` on both registers of vectors.
macro_rules! both {
    ($operation:expr, $a:expr $(, $b:expr)*) => {{
        // SAFETY: the caller's `self` proves NEON.
        unsafe { [$operation($a[0] $(, $b[0])*), $operation($a[1] $(, $b[1])*)] }
    }};
}

/// `weights`, signed, times `x` added to `sum`, four neighbours to a lane.
#[inline(always)]
fn dot_neon(sum: int32x4_t, weights: uint8x16_t, x: uint8x16_t) -> int32x4_t {
    // A product of signed bytes fits 16 bits; pairs are widened as they are added.
    // SAFETY: called for tokens that prove NEON.
    unsafe {
        let (weights, x) = (vreinterpretq_s8_u8(weights), vreinterpretq_s8_u8(x));
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
        let high = vpaddlq_s16(vmull_high_s8(weights, x));
        vaddq_s32(sum, vpaddq_s32(low, high))
    }
}

/// [`dot_neon`] in one instruction.
///
/// # Safety
/// The CPU has DotProd.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn dot_instruction(sum: int32x4_t, weights: uint8x16_t, x: uint8x16_t) -> int32x4_t {
    let mut sum = sum;
    // The intrinsic is not stable yet.
    // SAFETY: the instruction reads and writes registers alone; the CPU has it.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.16b",
            sum = inout(vreg) sum, weights = in(vreg) weights, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Adds the products of two tokens and two rows, eight columns of signed bytes each: token by token in `sum`.
///
/// # Safety
/// The CPU has I8MM.
#[target_feature(enable = "neon,i8mm")]
#[inline]
unsafe fn multiply_pair(sum: int32x4_t, x: int8x16_t, rows: uint8x16_t) -> int32x4_t {
    let mut sum = sum;
    // The intrinsic is not stable yet.
    // SAFETY: the instruction reads and writes registers alone; the CPU has it.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {x:v}.16b, {rows:v}.16b",
            sum = inout(vreg) sum, x = in(vreg) x, rows = in(vreg) rows,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Implements [`Simd`] for a token, with `$dot` for the products of one register, numbers of tokens where memory and where arithmetic is
/// the limit, and what else there is.
macro_rules! implement_simd {
    ($token:ty, $dot:path, $light:expr, $tiles:expr, { $($more:tt)* }) => {
        impl Simd for $token {
            const LANES: usize = 8;
            // Weights are codes below 128 or signed bytes: both are signed bytes to the instruction.
            const WIDE_DOT: bool = true;
            const BIAS: i32 = 0;
            const LIGHT_TILES: &'static [usize] = &$light;
            const TILE_VECTORS: usize = 1;
            const TILES: &'static [usize] = &$tiles;

            type F32 = [float32x4_t; 2];
            type I32 = [int32x4_t; 2];
            type Bytes = [uint8x16_t; 2];
            type Dot = [int32x4_t; 2];
            type Factor = [int32x4_t; 2];

            #[inline(always)]
            fn prefetch(self, bytes: &[u8], at: usize) {
                let line = bytes.as_ptr().wrapping_add(at);
                // SAFETY: a prefetch accesses nothing, whatever the address.
                unsafe { asm!("prfm pldl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly)) }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> Self::F32 {
                // SAFETY: `self` proves NEON.
                [unsafe { vdupq_n_f32(value) }; 2]
            }

            #[inline(always)]
            fn load(self, values: &[f32; GROUP], part: usize) -> Self::F32 {
                let values = part_of(values, part);
                // SAFETY: `self` proves NEON; the part lies within the group (`part_of`).
                unsafe { [vld1q_f32(values), vld1q_f32(values.add(4))] }
            }

            #[inline(always)]
            fn load_f32(self, bytes: &[u8; 4 * GROUP], part: usize) -> Self::F32 {
                let bytes = part_of(bytes, part);
                // SAFETY: `self` proves NEON; the part lies within the group (`part_of`).
                unsafe { [vld1q_u8(bytes), vld1q_u8(bytes.add(16))].map(|half| vreinterpretq_f32_u8(half)) }
            }

            #[inline(always)]
            fn load_f16(self, bytes: &[u8; 2 * GROUP], part: usize) -> Self::F32 {
                // SAFETY: `self` proves NEON; the part lies within the group (`part_of`).
                unsafe {
                    let halves = vreinterpretq_f16_u8(vld1q_u8(part_of(bytes, part)));
                    [vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)]
                }
            }

            #[inline(always)]
            fn load_bf16(self, bytes: &[u8; 2 * GROUP], part: usize) -> Self::F32 {
                // SAFETY: `self` proves NEON; the part lies within the group (`part_of`).
                unsafe {
                    let words = vreinterpretq_u16_u8(vld1q_u8(part_of(bytes, part)));
                    [vshll_n_u16::<16>(vget_low_u16(words)), vshll_high_n_u16::<16>(words)]
                        .map(|half| vreinterpretq_f32_u32(half))
                }
            }

            #[inline(always)]
            fn store(self, vector: Self::F32, values: &mut [f32; GROUP], part: usize) {
                let values = values[8 * part..][..8].as_mut_ptr();
                // SAFETY: `self` proves NEON; the slice has 32 bytes.
                unsafe {
                    vst1q_f32(values, vector[0]);
                    vst1q_f32(values.add(4), vector[1]);
                }
            }

            #[inline(always)]
            fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                both!(vaddq_f32, a, b)
            }

            #[inline(always)]
            fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                both!(vmulq_f32, a, b)
            }

            #[inline(always)]
            fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
                let is_greater = both!(vcgtq_f32, a, b);
                both!(vbslq_f32, is_greater, a, b)
            }

            #[inline(always)]
            fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
                both!(vfmaq_f32, c, a, b)
            }

            #[inline(always)]
            fn load_bytes(self, bytes: &[u8; 4 * GROUP], part: usize) -> Self::Bytes {
                let bytes = part_of(bytes, part);
                // SAFETY: `self` proves NEON; the part lies within the group (`part_of`).
                unsafe { [vld1q_u8(bytes), vld1q_u8(bytes.add(16))] }
            }

            #[inline(always)]
            fn splat4(self, bytes: [i8; 4]) -> Self::Bytes {
                let word = u32::from_ne_bytes(bytes.map(|byte| byte as u8));
                // SAFETY: `self` proves NEON.
                [unsafe { vreinterpretq_u8_u32(vdupq_n_u32(word)) }; 2]
            }

            #[inline(always)]
            fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
                both!(|bytes| vandq_u8(bytes, vdupq_n_u8(15)), bytes)
            }

            #[inline(always)]
            fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes {
                both!(vshrq_n_u8::<4>, bytes)
            }

            #[inline(always)]
            fn look_up(self, table: &[u8; 16], indices: Self::Bytes) -> Self::Bytes {
                // SAFETY: `self` proves NEON; sixteen bytes are read.
                let table = unsafe { vld1q_u8(table.as_ptr()) };
                both!(|bytes| vqtbl1q_u8(table, bytes), indices)
            }

            #[inline(always)]
            fn bits(self, bytes: Self::Bytes, from: u32, width: u32, to: u32) -> Self::Bytes {
                let mask = ((1 << width) - 1) << to;
                let shift = to as i8 - from as i8;
                both!(|bytes| vandq_u8(vshlq_u8(bytes, vdupq_n_s8(shift)), vdupq_n_u8(mask)), bytes)
            }

            #[inline(always)]
            fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
                both!(vorrq_u8, a, b)
            }

            #[inline(always)]
            fn dot_zero(self) -> Self::Dot {
                self.i32_splat(0)
            }

            #[inline(always)]
            fn dot(self, sum: Self::Dot, weights: Self::Bytes, x: Self::Bytes) -> Self::Dot {
                #[allow(unused_unsafe, reason = "of one of the two functions")]
                // SAFETY: `self` proves what the function needs.
                unsafe {
                    [$dot(sum[0], weights[0], x[0]), $dot(sum[1], weights[1], x[1])]
                }
            }

            #[inline(always)]
            fn dot_finish(self, sum: Self::I32, products: Self::Dot) -> Self::I32 {
                self.i32_add(sum, products)
            }

            #[inline(always)]
            fn factor(self, biased: Self::Bytes, byte: u32) -> Self::Factor {
                both!(
                    |biased| {
                        let bytes = vreinterpretq_s32_u8(veorq_u8(biased, vdupq_n_u8(128)));
                        vshrq_n_s32::<24>(vshlq_s32(bytes, vdupq_n_s32(24 - 8 * byte as i32)))
                    },
                    biased
                )
            }

            #[inline(always)]
            fn dot_scale(self, sum: Self::I32, products: Self::Dot, factor: Self::Factor) -> Self::I32 {
                both!(vmlaq_s32, sum, products, factor)
            }

            #[inline(always)]
            fn i32_scale(self, sum: Self::I32, products: Self::I32, factor: Self::Factor) -> Self::I32 {
                self.dot_scale(sum, products, factor)
            }

            #[inline(always)]
            fn dot_biased(self, sum: Self::I32, biased: Self::Bytes, x: Self::Bytes) -> Self::I32 {
                self.dot(sum, both!(|biased| veorq_u8(biased, vdupq_n_u8(128)), biased), x)
            }

            #[inline(always)]
            fn i32_splat(self, value: i32) -> Self::I32 {
                // SAFETY: `self` proves NEON.
                [unsafe { vdupq_n_s32(value) }; 2]
            }

            #[inline(always)]
            fn i32_load_i8(self, bytes: &[u8; GROUP], part: usize) -> Self::I32 {
                // SAFETY: `self` proves NEON; the part lies within the group (`part_of`).
                unsafe {
                    let words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(part_of(bytes, part))));
                    [vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)]
                }
            }

            #[inline(always)]
            fn i32_add(self, a: Self::I32, b: Self::I32) -> Self::I32 {
                both!(vaddq_s32, a, b)
            }

            #[inline(always)]
            fn i32_shift_left(self, a: Self::I32, bits: u32) -> Self::I32 {
                both!(|a| vshlq_s32(a, vdupq_n_s32(bits as i32)), a)
            }

            #[inline(always)]
            fn i32_to_f32(self, a: Self::I32) -> Self::F32 {
                both!(vcvtq_f32_s32, a)
            }

            $($more)*
        }
    };
}

implement_simd!(Neon, dot_neon, [1, 2, 3, 4], [2, 3, 4], {});
implement_simd!(NeonDot, dot_instruction, [1, 2, 3, 4], [2, 3, 4], {});
implement_simd!(NeonMatrix, dot_instruction, [1, 2, 4], [2, 4], {
    const PAIRS: bool = true;

    #[inline(always)]
    fn dot_pair(
        self,
        sums: [Self::Dot; 2],
        weights: [Self::Bytes; 2],
        biased: bool,
        x: [&[i8; 8]; 2],
    ) -> [Self::Dot; 2] {
        let mut sums = sums;
        // SAFETY: `self` proves NEON and I8MM; the loads have eight bytes each.
        unsafe {
            let x = vcombine_s8(vld1_s8(x[0].as_ptr()), vld1_s8(x[1].as_ptr()));
            let bias = vdupq_n_u8(if biased { 128 } else { 0 });
            for half in 0..2 {
                // A row's columns come to lie side by side.
                let [a, b] = weights.map(|columns| vreinterpretq_u32_u8(veorq_u8(columns[half], bias)));
                let rows = [vzip1q_u32(a, b), vzip2q_u32(a, b)];
                for i in 0..2 {
                    sums[i][half] = multiply_pair(sums[i][half], x, vreinterpretq_u8_u32(rows[i]));
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn pair_finish(self, sums: [Self::Dot; 2]) -> [Self::Dot; 2] {
        // Registers of two rows of both tokens become those of four rows of one.
        // SAFETY: `self` proves NEON.
        unsafe {
            let [first, second] =
                sums.map(|sums| [vreinterpretq_s64_s32(sums[0]), vreinterpretq_s64_s32(sums[1])]);
            [
                [vzip1q_s64(first[0], second[0]), vzip1q_s64(first[1], second[1])],
                [vzip2q_s64(first[0], second[0]), vzip2q_s64(first[1], second[1])],
            ]
            .map(|token| [vreinterpretq_s32_s64(token[0]), vreinterpretq_s32_s64(token[1])])
        }
    }
});
