//! Instruction sets: one small vector trait, one thin file each.
//!
//! Kernels are written once, generic over [`Simd`]. [`Scalar`] defines what each operation computes; the others must give
//! the same bits.
//!
//! The lanes of a vector are always independent results (rows of a matrix, rows or dimensions of a KV cache), never parts
//! of one sum: so its width, eight or sixteen lanes, has no influence on any result. What lies in memory is interleaved
//! by [`GROUP`]; a narrower vector takes a *part* of a group.
//!
//! A [`Simd`] value is a token of proof: a value of an instruction set's type exists only after its detection, so that
//! the safe methods of the trait may use its instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, Avx2Vnni};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, NeonDot};
pub(crate) use scalar::Scalar;

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
    /// Unsigned bytes as floats.
    fn load_u8(self, bytes: &[u8; GROUP], part: usize) -> Self::F32;
    /// Writes the part.
    fn store(self, vector: Self::F32, values: &mut [f32; GROUP], part: usize);
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
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
    /// Of each byte the `width` bits from bit `from` on, moved to bit 4.
    fn bits_to_4(self, bytes: Self::Bytes, from: u32, width: u32) -> Self::Bytes;
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
    /// Adds to `sum` the products of signed `x` in `-127..=127` and the weights `byte - 128 + BIAS` of `biased`, four
    /// neighbours to a lane. What the bias adds is the caller's to take off.
    fn dot_biased(self, sum: Self::I32, biased: Self::Bytes, x: Self::Bytes) -> Self::I32;

    /// `value` in every lane.
    fn i32_splat(self, value: i32) -> Self::I32;
    /// Signed bytes, widened.
    fn i32_load_i8(self, bytes: &[u8; GROUP], part: usize) -> Self::I32;
    /// `a + b`
    fn i32_add(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a * b`, the lower 32 bits.
    fn i32_mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a << bits`, `bits` below 32.
    fn i32_shift_left(self, a: Self::I32, bits: u32) -> Self::I32;
    /// The nearest floats, ties to even.
    fn i32_to_f32(self, a: Self::I32) -> Self::F32;
}

/// The instruction set that kernels run on.
#[derive(Clone, Copy, Debug)]
pub struct Isa(pub(crate) IsaKind);

#[derive(Clone, Copy, Debug)]
pub(crate) enum IsaKind {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni(Avx2Vnni),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
}

impl Isa {
    /// The portable definition: slow, on every machine, bit for bit what the others compute.
    pub const SCALAR: Self = Self(IsaKind::Scalar(Scalar));

    /// The best instruction set of this CPU.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::SCALAR)
    }

    /// Every instruction set that this CPU has, the scalar definition first, the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "the scalar one alone on other architectures")]
        let mut all = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|simd| Self(IsaKind::Avx2(simd))));
            all.extend(Avx2Vnni::detect().map(|simd| Self(IsaKind::Avx2Vnni(simd))));
            all.extend(Avx512::detect().map(|simd| Self(IsaKind::Avx512(simd))));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(Neon::detect().map(|simd| Self(IsaKind::Neon(simd))));
            all.extend(NeonDot::detect().map(|simd| Self(IsaKind::NeonDot(simd))));
        }
        all
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self.0 {
            IsaKind::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2Vnni(_) => "AVX2 + VNNI",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512(_) => "AVX-512 + VNNI",
            #[cfg(target_arch = "aarch64")]
            IsaKind::Neon(_) => "NEON",
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonDot(_) => "NEON + DotProd",
        }
    }
}

/// Defines a function once, generic over the instruction set, and compiles it for each of them.
///
/// `fn name(simd, x: X) -> R { … }` becomes `fn name(isa: Isa, x: X) -> R`. Everything that the body calls with `simd`
/// must be `#[inline(always)]`: vector instructions inline only into functions that are compiled for them. Closures
/// and library functions that take them (`array::from_fn`, `map`) are not, so kernels use loops.
macro_rules! simd_fn {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $(<$($generic:ident: $bound:ident),*>)? ($simd:ident $(, $argument:ident: $type:ty)* $(,)?) $(-> $result:ty)?
        $body:block
    ) => {
        $(#[$attribute])*
        $visibility fn $name $(<$($generic: $bound),*>)? (isa: $crate::simd::Isa $(, $argument: $type)*) $(-> $result)? {
            #[inline(always)]
            fn generic<S: $crate::simd::Simd $($(, $generic: $bound)*)?>($simd: S $(, $argument: $type)*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$($generic: $bound),*>)? (simd: $crate::simd::Avx2 $(, $argument: $type)*) $(-> $result)? {
                generic::<_ $($(, $generic)*)?>(simd $(, $argument)*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            fn avx2_vnni $(<$($generic: $bound),*>)? (simd: $crate::simd::Avx2Vnni $(, $argument: $type)*) $(-> $result)? {
                generic::<_ $($(, $generic)*)?>(simd $(, $argument)*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            fn avx512 $(<$($generic: $bound),*>)? (simd: $crate::simd::Avx512 $(, $argument: $type)*) $(-> $result)? {
                generic::<_ $($(, $generic)*)?>(simd $(, $argument)*)
            }

            // NEON needs no function of its own: every function of its target is compiled for it.
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            fn neon_dot $(<$($generic: $bound),*>)? (simd: $crate::simd::NeonDot $(, $argument: $type)*) $(-> $result)? {
                generic::<_ $($(, $generic)*)?>(simd $(, $argument)*)
            }

            match isa.0 {
                $crate::simd::IsaKind::Scalar(simd) => generic::<_ $($(, $generic)*)?>(simd $(, $argument)*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::Avx2(simd) => unsafe { avx2 $(::<$($generic),*>)? (simd $(, $argument)*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::Avx2Vnni(simd) => unsafe { avx2_vnni $(::<$($generic),*>)? (simd $(, $argument)*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::Avx512(simd) => unsafe { avx512 $(::<$($generic),*>)? (simd $(, $argument)*) },
                #[cfg(target_arch = "aarch64")]
                $crate::simd::IsaKind::Neon(simd) => generic::<_ $($(, $generic)*)?>(simd $(, $argument)*),
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::NeonDot(simd) => unsafe { neon_dot $(::<$($generic),*>)? (simd $(, $argument)*) },
            }
        }
    };
}
pub(crate) use simd_fn;

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
