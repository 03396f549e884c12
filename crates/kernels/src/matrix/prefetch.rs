//! Weights are asked for before a product comes to them.

use crate::simd::Simd;

/// How far ahead of their use weights are asked for. The processor looks ahead by itself, but not as far, and not where
/// several streams alternate.
pub(crate) const PREFETCH_BYTES: usize = 4 << 10;

/// Asks for what lies [`PREFETCH_BYTES`] behind the `len` bytes at `at` of each group. Where a group ends, the one that
/// comes after those of this tile follows.
#[inline(always)]
pub(super) fn prefetch<S: Simd, const V: usize>(simd: S, groups: [&[u8]; V], at: usize, len: usize) {
    let ahead = at + PREFETCH_BYTES;
    for v in (0..V).step_by(S::PARTS) {
        let group_bytes = groups[v].len();
        let siblings = V.div_ceil(S::PARTS) - 1;
        let skipped = if ahead < group_bytes { 0 } else { siblings * group_bytes };
        for line in (0..len).step_by(64) {
            simd.prefetch(groups[v], ahead + skipped + line);
        }
    }
}
