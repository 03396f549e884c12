//! Where a product is written.

use std::ops::Range;

use super::packed::Matrix;
use crate::disjoint::Disjoint;
use crate::simd::{GROUP, Simd};

/// Where a task's part of a product goes: some groups of rows, for all tokens.
pub(super) struct Output<'a> {
    /// `[token][row]`, for the rows `rows`.
    values: &'a Disjoint<'a, f32>,
    rows: Range<usize>,
    groups: Range<usize>,
    /// What sums are multiplied with.
    scale: f32,
}

impl<'a> Output<'a> {
    /// The part `groups` of a product with `matrix`; `values` are for its rows `rows`, those of the groups among them.
    ///
    /// # Safety
    /// No other part of the same `values` in use has one of these groups.
    pub(super) unsafe fn new(
        values: &'a Disjoint<'a, f32>,
        matrix: &Matrix,
        rows: Range<usize>,
        groups: Range<usize>,
    ) -> Self {
        Self { values, rows, groups, scale: matrix.scale }
    }

    /// The vectors of rows of this part: `PARTS` a group.
    pub(super) fn vectors<S: Simd>(&self) -> Range<usize> {
        self.groups.start * S::PARTS..self.groups.end * S::PARTS
    }

    /// Writes the sums of a vector of rows for one token.
    #[inline(always)]
    pub(super) fn store<S: Simd>(&mut self, simd: S, token: usize, vector: usize, sums: S::F32) {
        let values = simd.mul(sums, simd.splat(self.scale));
        assert!(self.groups.contains(&(vector / S::PARTS)), "a group of this part");
        let (group, part) = (vector / S::PARTS, vector % S::PARTS);
        let first = group * GROUP;
        let len = GROUP.min(self.rows.end.saturating_sub(first));
        // SAFETY: only this part has the group (`new`), and it is borrowed mutably.
        let out = unsafe { self.values.part(token * self.rows.len() + first - self.rows.start, len) };
        if let Some(out) = out.first_chunk_mut() {
            simd.store(values, out, part);
        } else {
            // The last group is filled up.
            let mut lanes = [0.0; GROUP];
            simd.store(values, &mut lanes, part);
            let written = (part * S::LANES).min(len)..((part + 1) * S::LANES).min(len);
            out[written.clone()].copy_from_slice(&lanes[written]);
        }
    }
}
