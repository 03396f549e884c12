//! A packed matrix: groups of interleaved rows, and how they are shared out to tasks.

use std::ops::Range;

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
/// Groups to a task, at least, where there are enough for all threads.
const MIN_TASK_GROUPS: usize = 4;
/// The most groups that a tile covers.
const TILE_GROUPS: usize = 2;

/// How groups are shared out to tasks: in parts of whole tiles, whose sizes differ by one tile at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskGroups {
    groups: usize,
    tiles: usize,
    tasks: usize,
}

impl TaskGroups {
    /// At least `tasks` parts, as many for each of the `threads`, so that none waits for another that has one more.
    fn new(groups: usize, tasks: usize, threads: usize) -> Self {
        let tiles = groups.div_ceil(TILE_GROUPS);
        Self { groups, tiles, tasks: tasks.next_multiple_of(threads).min(tiles) }
    }

    pub(super) fn tasks(self) -> usize {
        self.tasks
    }

    /// The groups of task `task`.
    pub(super) fn part(self, task: usize) -> Range<usize> {
        let border = |task: usize| (self.tiles * task / self.tasks * TILE_GROUPS).min(self.groups);
        border(task)..border(task + 1)
    }

    /// No part has more groups.
    pub(super) fn largest(self) -> usize {
        self.tiles.div_ceil(self.tasks.max(1)) * TILE_GROUPS
    }
}

/// A weight matrix of `rows` outputs by `columns` inputs.
pub struct Matrix {
    pub(super) weight_type: WeightType,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Groups of [`GROUP`] rows; the last is filled up with zeros.
    pub(super) data: Buffer,
    pub(super) group_bytes: usize,
    /// What every weight is multiplied with besides.
    pub(super) scale: f32,
}

impl Matrix {
    /// The same weights, all times `scale`: a product's elements are multiplied with it when they are summed.
    #[must_use]
    pub fn scaled(self, scale: f32) -> Self {
        Self { scale: self.scale * scale, ..self }
    }

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

    /// The packed weights: groups of sixteen rows, each [`Matrix::group_bytes`] long and as [`WeightType::packed_form`] says. The last is
    /// filled up with zeros.
    pub fn packed(&self) -> &[u8] {
        &self.data
    }

    /// Bytes of sixteen rows.
    pub fn group_bytes(&self) -> usize {
        self.group_bytes
    }

    /// What every weight is multiplied with besides.
    pub fn scale(&self) -> f32 {
        self.scale
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

    /// The tasks of a product with `tokens` tokens.
    pub(super) fn task_groups(&self, tokens: usize, threads: usize) -> TaskGroups {
        let least = (MIN_TASK_BYTES * SHARED_TOKENS / tokens.max(SHARED_TOKENS)).max(MIN_HEAVY_TASK_BYTES);
        let bytes = (self.data.len() / TASKS).clamp(least, MAX_TASK_BYTES);
        let at_once =
            (bytes / self.group_bytes.max(1)).next_multiple_of(MIN_TASK_GROUPS).max(MIN_TASK_GROUPS);
        TaskGroups::new(self.groups(), self.groups().div_ceil(at_once), threads)
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix({} x {} {})", self.rows, self.columns, self.weight_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_tiles_of_nearly_the_same_size_and_as_many_for_each_thread() {
        for groups in 0..70 {
            for (wanted, threads) in [(1, 1), (1, 2), (3, 2), (5, 4), (7, 3), (40, 2)] {
                let task_groups = TaskGroups::new(groups, wanted, threads);
                let tasks = task_groups.tasks();
                assert!(tasks >= wanted.min(groups.div_ceil(TILE_GROUPS)));
                assert!(tasks.is_multiple_of(threads) || tasks == groups.div_ceil(TILE_GROUPS));
                let parts: Vec<_> = (0..tasks).map(|task| task_groups.part(task)).collect();
                assert_eq!(
                    parts.iter().cloned().flatten().collect::<Vec<_>>(),
                    (0..groups).collect::<Vec<_>>()
                );
                for part in &parts {
                    assert!(part.start.is_multiple_of(TILE_GROUPS));
                    assert!((1..=task_groups.largest()).contains(&part.len()), "{groups} {tasks} {part:?}");
                    assert!(part.len() + TILE_GROUPS >= groups / tasks);
                }
            }
        }
    }
}
