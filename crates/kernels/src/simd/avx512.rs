//! AVX-512 (F, BW, VL, DQ) with the byte dot product of VNNI: x86-64 servers since 2019.

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::vector::{GROUP, Simd};

/// Proof that the CPU has AVX-512F, BW, VL, DQ and VNNI, and what [`Avx2`] proves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        (Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni"))
        .then_some(Self(()))
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const WIDE_DOT: bool = true;
    const BIAS: i32 = 128;
    const LIGHT_TILES: &'static [usize] = &[1, 2, 3, 4];
    const TILE_VECTORS: usize = 2;
    const TILES: &'static [usize] = &[3, 4, 6];

    type F32 = __m512;
    type I32 = __m512i;
    type Bytes = __m512i;
    type Dot = __m512i;
    type Factor = __m512i;

    #[inline(always)]
    fn prefetch(self, bytes: &[u8], at: usize) {
        // SAFETY: a prefetch accesses nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(at).cast()) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; GROUP], _: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512; the array has 64 bytes; the load may be unaligned.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * GROUP], _: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512; the array has 64 bytes; the load may be unaligned.
        unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * GROUP], _: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512; the array has 32 bytes; the load may be unaligned.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 2 * GROUP], _: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512; the array has 32 bytes; the load may be unaligned.
        unsafe {
            let widened = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(widened))
        }
    }

    #[inline(always)]
    fn store(self, vector: __m512, values: &mut [f32; GROUP], _: usize) {
        // SAFETY: `self` proves AVX-512; the array has 64 bytes; the store may be unaligned.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * GROUP], _: usize) -> __m512i {
        // SAFETY: `self` proves AVX-512; the array has 64 bytes; the load may be unaligned.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn splat4(self, bytes: [i8; 4]) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi32(i32::from_ne_bytes(bytes.map(|byte| byte as u8))) }
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], indices: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512; sixteen bytes are read.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), indices)
        }
    }

    #[inline(always)]
    fn bits(self, bytes: __m512i, from: u32, width: u32, to: u32) -> __m512i {
        // There is no shift of bytes; the mask removes what a shift of 16-bit lanes carries between them.
        let mask = (((1 << width) - 1) << to) as i8;
        // SAFETY: `self` proves AVX-512BW.
        unsafe {
            let moved = if from <= to {
                _mm512_sll_epi16(bytes, _mm_cvtsi32_si128((to - from) as i32))
            } else {
                _mm512_srl_epi16(bytes, _mm_cvtsi32_si128((from - to) as i32))
            };
            _mm512_and_si512(moved, _mm512_set1_epi8(mask))
        }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn dot_zero(self) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn i32_splat(self, value: i32) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn i32_load_i8(self, bytes: &[u8; GROUP], _: usize) -> __m512i {
        // SAFETY: `self` proves AVX-512; the array has 16 bytes; the load may be unaligned.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn i32_add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn i32_shift_left(self, a: __m512i, bits: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sllv_epi32(a, _mm512_set1_epi32(bits as i32)) }
    }

    #[inline(always)]
    fn i32_to_f32(self, a: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cvtepi32_ps(a) }
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, weights: __m512i, x: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sum, weights, x) }
    }

    #[inline(always)]
    fn dot_finish(self, sum: __m512i, products: __m512i) -> __m512i {
        self.i32_add(sum, products)
    }

    #[inline(always)]
    fn factor(self, biased: __m512i, byte: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let bytes = _mm512_xor_si512(biased, _mm512_set1_epi8(-128));
            _mm512_srai_epi32::<24>(_mm512_sll_epi32(bytes, _mm_cvtsi32_si128(24 - 8 * byte as i32)))
        }
    }

    #[inline(always)]
    fn dot_scale(self, sum: __m512i, products: __m512i, factor: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_epi32(sum, _mm512_mullo_epi32(products, factor)) }
    }

    #[inline(always)]
    fn i32_scale(self, sum: __m512i, products: __m512i, factor: __m512i) -> __m512i {
        self.dot_scale(sum, products, factor)
    }

    #[inline(always)]
    fn dot_biased(self, sum: __m512i, biased: __m512i, x: __m512i) -> __m512i {
        self.dot(sum, biased, x)
    }
}
