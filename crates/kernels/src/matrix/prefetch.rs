//! Weights are asked for before a product comes to them.

use crate::simd::Simd;

/// How far ahead of their use weights are asked for. The processor looks ahead by itself, but not as far, and not where
/// several streams alternate.
pub(crate) const PREFETCH_BYTES: usize = 4 << 10;

/// Asks for what lies [`PREFETCH_BYTES`] behind the `len` bytes at `at` of each group. Where a group ends, the one that
/// comes after those of this tile follows.
#[inline(always)]
pub(super) fn prefetch<S: Simd, const V: usize>(simd: S, groups: [&[u8]; V], at: usize, len: usize) {
    for v in (0..V).step_by(S::PARTS) {
        prefetch_beside(simd, groups[v], V.div_ceil(S::PARTS) - 1, at, len);
    }
}

/// The same for one group that is read beside `siblings` others.
#[inline(always)]
pub(super) fn prefetch_beside<S: Simd>(simd: S, group: &[u8], siblings: usize, at: usize, len: usize) {
    let ahead = at + PREFETCH_BYTES;
    let skipped = if ahead < group.len() { 0 } else { siblings * group.len() };
    for line in (0..len).step_by(64) {
        simd.prefetch(group, ahead + skipped + line);
    }
}
