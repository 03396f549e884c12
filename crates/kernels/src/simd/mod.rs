//! Instruction sets: one small vector trait, one thin file each.
//!
//! Kernels are written once, generic over [`Simd`]. [`Scalar`] defines what each operation computes; the others must give
//! the same bits. A vector always has eight `f32` lanes, whatever the hardware's width, so that sums kept in lanes add
//! the same terms in the same order everywhere.
//!
//! A [`Simd`] value is a token of proof: a value of an instruction set's type exists only after its detection, so that
//! the safe methods of the trait may use its instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, Avx2Vnni};
pub(crate) use scalar::Scalar;

/// Vector operations of one instruction set.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Eight `f32` lanes.
    type F32: Copy;
    /// Eight `i32` lanes.
    type I32: Copy;
    /// 32 bytes, signed or unsigned as the operation says: eight lanes of four.
    type Bytes: Copy;
    /// Partial sums of byte products on their way to eight `i32` lanes.
    type DotSum: Copy;

    /// Eight times `value`.
    fn splat(self, value: f32) -> Self::F32;
    /// Eight values.
    fn load(self, values: &[f32; 8]) -> Self::F32;
    /// Eight little-endian singles.
    fn load_f32(self, bytes: &[u8; 32]) -> Self::F32;
    /// Eight little-endian halves, widened exactly.
    fn load_f16(self, bytes: &[u8; 16]) -> Self::F32;
    /// Eight little-endian bfloat16, widened exactly.
    fn load_bf16(self, bytes: &[u8; 16]) -> Self::F32;
    /// Eight unsigned bytes as floats.
    fn load_u8(self, bytes: [u8; 8]) -> Self::F32;
    /// Writes eight values.
    fn store(self, vector: Self::F32, values: &mut [f32; 8]);
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The sum of the lanes in the canonical order `((0+4)+(2+6)) + ((1+5)+(3+7))`.
    fn sum(self, vector: Self::F32) -> f32;

    /// 32 bytes.
    fn load_bytes(self, bytes: &[u8; 32]) -> Self::Bytes;
    /// Four signed bytes, eight times.
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
    fn dot_zero(self) -> Self::DotSum;
    /// Adds the products of unsigned `weights` and signed `x` to `sum`, four neighbours to a lane.
    ///
    /// Pairs are summed in 16 bits, so the caller bounds how many products meet before [`Simd::dot_finish`]:
    /// `calls * 2 * max(weights) * 127 <= i16::MAX`.
    fn dot(self, sum: Self::DotSum, weights: Self::Bytes, x: Self::Bytes) -> Self::DotSum;
    /// The exact sums of products.
    fn dot_finish(self, sum: Self::DotSum) -> Self::I32;
    /// The sums of products of signed `weights` and signed `x` in `-127..=127`, four neighbours to a lane.
    fn dot_signed(self, weights: Self::Bytes, x: Self::Bytes) -> Self::I32;

    /// Eight times `value`.
    fn i32_splat(self, value: i32) -> Self::I32;
    /// Eight signed bytes, widened.
    fn i32_load_i8(self, bytes: [u8; 8]) -> Self::I32;
    /// `a + b`
    fn i32_add(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`
    fn i32_sub(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a * b`, the lower 32 bits.
    fn i32_mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
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
        #[allow(unused_mut, reason = "no more than the scalar one on other architectures")]
        let mut all = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|simd| Self(IsaKind::Avx2(simd))));
            all.extend(Avx2Vnni::detect().map(|simd| Self(IsaKind::Avx2Vnni(simd))));
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

            match isa.0 {
                $crate::simd::IsaKind::Scalar(simd) => generic::<_ $($(, $generic)*)?>(simd $(, $argument)*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::Avx2(simd) => unsafe { avx2 $(::<$($generic),*>)? (simd $(, $argument)*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::Avx2Vnni(simd) => unsafe { avx2_vnni $(::<$($generic),*>)? (simd $(, $argument)*) },
            }
        }
    };
}
pub(crate) use simd_fn;
