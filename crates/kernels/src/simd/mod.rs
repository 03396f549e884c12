//! Instruction sets: one small vector trait, one thin file each.
//!
//! Kernels are written once, generic over [`Simd`]. [`Scalar`] defines what each operation computes; the others must give
//! the same bits.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod vector;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::{Amx, Sums, TILE_COLUMNS, TILE_TOKENS, Tiles, WeightLine};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, Avx2Vnni};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, NeonDot, NeonMatrix};
pub(crate) use scalar::Scalar;
pub(crate) use vector::{GROUP, MAX_PARTS, Simd, first};

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
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
    #[cfg(target_arch = "aarch64")]
    NeonMatrix(NeonMatrix),
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
            all.extend(Amx::detect().map(|amx| Self(IsaKind::Amx(amx))));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(Neon::detect().map(|simd| Self(IsaKind::Neon(simd))));
            all.extend(NeonDot::detect().map(|simd| Self(IsaKind::NeonDot(simd))));
            all.extend(NeonMatrix::detect().map(|simd| Self(IsaKind::NeonMatrix(simd))));
        }
        all
    }

    /// Of those that this CPU has, the one with the short name `id`.
    pub fn with_id(id: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.id() == id)
    }

    /// Its short name, for flags.
    pub fn id(self) -> &'static str {
        match self.0 {
            IsaKind::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2Vnni(_) => "avx2-vnni",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            IsaKind::Amx(_) => "amx",
            #[cfg(target_arch = "aarch64")]
            IsaKind::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonDot(_) => "neon-dot",
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonMatrix(_) => "neon-i8mm",
        }
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
            #[cfg(target_arch = "x86_64")]
            IsaKind::Amx(_) => "AVX-512 + AMX",
            #[cfg(target_arch = "aarch64")]
            IsaKind::Neon(_) => "NEON",
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonDot(_) => "NEON + DotProd",
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonMatrix(_) => "NEON + I8MM",
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

            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod,i8mm")]
            fn neon_matrix $(<$($generic: $bound),*>)? (simd: $crate::simd::NeonMatrix $(, $argument: $type)*) $(-> $result)? {
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
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::Amx(amx) => unsafe { avx512 $(::<$($generic),*>)? (amx.avx512() $(, $argument)*) },
                #[cfg(target_arch = "aarch64")]
                $crate::simd::IsaKind::Neon(simd) => generic::<_ $($(, $generic)*)?>(simd $(, $argument)*),
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::NeonDot(simd) => unsafe { neon_dot $(::<$($generic),*>)? (simd $(, $argument)*) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the token proves that the CPU has the features.
                $crate::simd::IsaKind::NeonMatrix(simd) => unsafe { neon_matrix $(::<$($generic),*>)? (simd $(, $argument)*) },
            }
        }
    };
}
pub(crate) use simd_fn;
