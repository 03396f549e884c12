//! A packed matrix: groups of interleaved rows, and how they are shared out to tasks.

use crate::arena::Buffer;
use crate::simd::{GROUP, Simd};
use crate::weight_type::WeightType;

/// Weight bytes to a task for up to [`SHARED_TOKENS`] tokens, at least: each task begins with a wait for memory, until the
/// processor's prefetching has caught up.
const MIN_TASK_BYTES: usize = 64 << 10;
/// The same for many tokens, where a late thread would hold up the others.
const MIN_HEAVY_TASK_BYTES: usize = 16 << 10;
/// Up to so many tokens, tasks are as large as for one.
const SHARED_TOKENS: usize = 8;
/// Weight bytes to a task, at most.
const MAX_TASK_BYTES: usize = 256 << 10;
/// Tasks of a large matrix, between these limits.
const TASKS: usize = 32;
/// The most groups that a tile covers.
const TILE_GROUPS: usize = 4;

/// A weight matrix of `rows` outputs by `columns` inputs.
pub struct Matrix {
    pub(super) weight_type: WeightType,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Groups of [`GROUP`] rows; the last is filled up with zeros.
    pub(super) data: Buffer,
    pub(super) group_bytes: usize,
}

impl Matrix {
    /// How the weights are stored.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    #[inline(always)]
    pub(super) fn group(&self, group: usize) -> &[u8] {
        &self.data[group * self.group_bytes..][..self.group_bytes]
    }

    /// The groups of `V` vectors of rows from vector `vector` on, and which part of its group each is.
    #[inline(always)]
    pub(super) fn vectors<S: Simd, const V: usize>(&self, vector: usize) -> ([&[u8]; V], [usize; V]) {
        let mut parts = [0; V];
        for v in 0..V {
            // Tiles of whole groups begin with one, which makes their parts constants.
            parts[v] = if V >= S::PARTS { v } else { vector + v } % S::PARTS;
        }
        let mut groups = [&[][..]; V];
        for v in 0..V {
            groups[v] = self.group((vector + v) / S::PARTS);
        }
        (groups, parts)
    }

    /// Groups to a task of a product with `tokens` tokens.
    pub(super) fn task_groups(&self, tokens: usize) -> usize {
        let least = (MIN_TASK_BYTES * SHARED_TOKENS / tokens.max(SHARED_TOKENS)).max(MIN_HEAVY_TASK_BYTES);
        let bytes = (self.data.len() / TASKS).clamp(least, MAX_TASK_BYTES);
        (bytes / self.group_bytes.max(1)).next_multiple_of(TILE_GROUPS).max(TILE_GROUPS)
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({} x {} {})", self.rows, self.columns, self.weight_type)
    }
}
