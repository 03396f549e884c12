//! AVX2 with FMA and F16C (x86-64 since 2013), and the same with the byte dot product of VNNI.

use std::arch::x86_64::*;

use super::vector::{GROUP, Simd};

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Proof that the CPU has AVX2, FMA, F16C and AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Vnni(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }
}

impl Avx2Vnni {
    pub(crate) fn detect() -> Option<Self> {
        (Avx2::detect().is_some() && is_x86_feature_detected!("avxvnni")).then_some(Self(()))
    }
}

/// The pointer to part `part` of a group of `len` elements.
#[inline(always)]
fn part_of<T, const N: usize>(group: &[T; N], part: usize) -> *const T {
    group[part * (N / 2)..][..N / 2].as_ptr()
}

/// Implements [`Simd`] for a token: all operations but the dot products, whose sums are 16 bits wide in one and 32 in
/// the other.
macro_rules! implement_simd {
    ($token:ty, { $($dots:tt)* }) => {
        impl Simd for $token {
            const LANES: usize = 8;

            type F32 = __m256;
            type I32 = __m256i;
            type Bytes = __m256i;
            type Dot = __m256i;
            type Factor = __m256i;

            $($dots)*

            #[inline(always)]
            fn prefetch(self, bytes: &[u8], at: usize) {
                // SAFETY: a prefetch accesses nothing, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(at).cast()) }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> __m256 {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_set1_ps(value) }
            }

            #[inline(always)]
            fn load(self, values: &[f32; GROUP], part: usize) -> __m256 {
                // SAFETY: `self` proves AVX; the part lies within the group (`part_of`); the load may be unaligned.
                unsafe { _mm256_loadu_ps(part_of(values, part)) }
            }

            #[inline(always)]
            fn load_f32(self, bytes: &[u8; 4 * GROUP], part: usize) -> __m256 {
                // SAFETY: `self` proves AVX; the part lies within the group (`part_of`); the load may be unaligned.
                unsafe { _mm256_loadu_ps(part_of(bytes, part).cast()) }
            }

            #[inline(always)]
            fn load_f16(self, bytes: &[u8; 2 * GROUP], part: usize) -> __m256 {
                // SAFETY: `self` proves F16C; the part lies within the group (`part_of`); the load may be unaligned.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(part_of(bytes, part).cast())) }
            }

            #[inline(always)]
            fn load_bf16(self, bytes: &[u8; 2 * GROUP], part: usize) -> __m256 {
                // SAFETY: `self` proves AVX2; the part lies within the group (`part_of`); the load may be unaligned.
                unsafe {
                    let widened = _mm256_cvtepu16_epi32(_mm_loadu_si128(part_of(bytes, part).cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(widened))
                 }
            }

            #[inline(always)]
            fn store(self, vector: __m256, values: &mut [f32; GROUP], part: usize) {
                let values = &mut values[8 * part..][..8];
                // SAFETY: `self` proves AVX; the slice has 32 bytes; the store may be unaligned.
                unsafe { _mm256_storeu_ps(values.as_mut_ptr(), vector) }
            }

            #[inline(always)]
            fn add(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_add_ps(a, b) }
            }

            #[inline(always)]
            fn mul(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_mul_ps(a, b) }
            }

            #[inline(always)]
            fn max(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_max_ps(a, b) }
            }

            #[inline(always)]
            fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: `self` proves FMA.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }

            #[inline(always)]
            fn load_bytes(self, bytes: &[u8; 4 * GROUP], part: usize) -> __m256i {
                // SAFETY: `self` proves AVX; the part lies within the group (`part_of`); the load may be unaligned.
                unsafe { _mm256_loadu_si256(part_of(bytes, part).cast()) }
            }

            #[inline(always)]
            fn splat4(self, bytes: [i8; 4]) -> __m256i {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_set1_epi32(i32::from_ne_bytes(bytes.map(|byte| byte as u8))) }
            }

            #[inline(always)]
            fn low_nibbles(self, bytes: __m256i) -> __m256i {
                // SAFETY: `self` proves AVX2.
                unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
            }

            #[inline(always)]
            fn high_nibbles(self, bytes: __m256i) -> __m256i {
                // SAFETY: `self` proves AVX2.
                unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15)) }
            }

            #[inline(always)]
            fn look_up(self, table: &[u8; 16], indices: __m256i) -> __m256i {
                // SAFETY: `self` proves AVX2; sixteen bytes are read.
                unsafe {
                    let table = _mm_loadu_si128(table.as_ptr().cast());
                    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), indices)
                }
            }

            #[inline(always)]
            fn bits(self, bytes: __m256i, from: u32, width: u32, to: u32) -> __m256i {
                // There is no shift of bytes; the mask removes what a shift of 16-bit lanes carries between them.
                let mask = (((1 << width) - 1) << to) as i8;
                // SAFETY: `self` proves AVX2.
                unsafe {
                    let moved = if from <= to {
                        _mm256_sll_epi16(bytes, _mm_cvtsi32_si128((to - from) as i32))
                    } else {
                        _mm256_srl_epi16(bytes, _mm_cvtsi32_si128((from - to) as i32))
                    };
                    _mm256_and_si256(moved, _mm256_set1_epi8(mask))
                }
            }

            #[inline(always)]
            fn or(self, a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: `self` proves AVX2.
                unsafe { _mm256_or_si256(a, b) }
            }

            #[inline(always)]
            fn dot_zero(self) -> __m256i {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_setzero_si256() }
            }

            #[inline(always)]
            fn i32_splat(self, value: i32) -> __m256i {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_set1_epi32(value) }
            }

            #[inline(always)]
            fn i32_load_i8(self, bytes: &[u8; GROUP], part: usize) -> __m256i {
                // SAFETY: `self` proves AVX2; the part lies within the group (`part_of`); the load may be unaligned.
                unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(part_of(bytes, part).cast())) }
            }

            #[inline(always)]
            fn i32_add(self, a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: `self` proves AVX2.
                unsafe { _mm256_add_epi32(a, b) }
            }


            #[inline(always)]
            fn i32_shift_left(self, a: __m256i, bits: u32) -> __m256i {
                // SAFETY: `self` proves AVX2.
                unsafe { _mm256_sllv_epi32(a, _mm256_set1_epi32(bits as i32)) }
            }

            #[inline(always)]
            fn i32_to_f32(self, a: __m256i) -> __m256 {
                // SAFETY: `self` proves AVX.
                unsafe { _mm256_cvtepi32_ps(a) }
            }
        }
    };
}

implement_simd!(Avx2, {
    const WIDE_DOT: bool = false;
    const BIAS: i32 = 0;
    const LIGHT_TILES: &'static [usize] = &[1, 2, 3];
    const TILE_VECTORS: usize = 1;
    const TILES: &'static [usize] = &[3, 4, 6];

    #[inline(always)]
    fn dot(self, sum: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, x)) }
    }

    #[inline(always)]
    fn dot_finish(self, sum: __m256i, products: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1))) }
    }

    #[inline(always)]
    fn factor(self, biased: __m256i, byte: u32) -> __m256i {
        // Both words of a lane: the byte at their upper end, then shifted down with its sign.
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bytes = _mm256_xor_si256(biased, _mm256_set1_epi8(-128));
            let of_quads = _mm256_setr_epi8(
                -128, 0, -128, 0, -128, 4, -128, 4, -128, 8, -128, 8, -128, 12, -128, 12, //
                -128, 0, -128, 0, -128, 4, -128, 4, -128, 8, -128, 8, -128, 12, -128, 12,
            );
            let places = _mm256_add_epi8(of_quads, _mm256_set1_epi16((byte as i16) << 8));
            _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(bytes, places))
        }
    }

    #[inline(always)]
    fn dot_scale(self, sum: __m256i, products: __m256i, factor: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(products, factor)) }
    }

    #[inline(always)]
    fn i32_scale(self, sum: __m256i, products: __m256i, factor: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sum, _mm256_mullo_epi32(products, _mm256_srai_epi32::<16>(factor))) }
    }

    #[inline(always)]
    fn dot_biased(self, sum: __m256i, biased: __m256i, x: __m256i) -> __m256i {
        // |w| is unsigned even for w = -128, and x takes the sign of w: 2 * 128 * 127 does not saturate 16 bits.
        // SAFETY: `self` proves AVX2.
        unsafe {
            let weights = _mm256_xor_si256(biased, _mm256_set1_epi8(-128));
            let x = _mm256_sign_epi8(x, weights);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), x);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
});

implement_simd!(Avx2Vnni, {
    const WIDE_DOT: bool = true;
    const BIAS: i32 = 128;
    const LIGHT_TILES: &'static [usize] = &[1, 2, 3, 4];
    const TILE_VECTORS: usize = 1;
    const TILES: &'static [usize] = &[3, 4, 6];

    #[inline(always)]
    fn dot(self, sum: __m256i, weights: __m256i, x: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sum, weights, x) }
    }

    #[inline(always)]
    fn dot_finish(self, sum: __m256i, products: __m256i) -> __m256i {
        self.i32_add(sum, products)
    }

    #[inline(always)]
    fn factor(self, biased: __m256i, byte: u32) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let bytes = _mm256_xor_si256(biased, _mm256_set1_epi8(-128));
            _mm256_srai_epi32::<24>(_mm256_sll_epi32(bytes, _mm_cvtsi32_si128(24 - 8 * byte as i32)))
        }
    }

    #[inline(always)]
    fn dot_scale(self, sum: __m256i, products: __m256i, factor: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(sum, _mm256_mullo_epi32(products, factor)) }
    }

    #[inline(always)]
    fn i32_scale(self, sum: __m256i, products: __m256i, factor: __m256i) -> __m256i {
        self.dot_scale(sum, products, factor)
    }

    #[inline(always)]
    fn dot_biased(self, sum: __m256i, biased: __m256i, x: __m256i) -> __m256i {
        self.dot(sum, biased, x)
    }
});
