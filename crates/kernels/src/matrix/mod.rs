//! Weight matrices: repacked once at load into the order in which the kernels read them.
//!
//! Sixteen rows are interleaved, so that the lanes of a vector are rows: every output element is then summed in its own
//! lane, column by column, and no sum depends on the vector's width. A product reads each weight from memory once for
//! all tokens.

mod best;
mod dense;
mod quantized;
mod tiles;

use std::ops::Range;

pub use self::best::{Candidate, Keep, Kept, KeptScratch, multiply_kept};
use crate::arena::Buffer;
use crate::block::dequantize_row;
use crate::disjoint::Disjoint;
use crate::quantize::quantize_row;
use crate::simd::{GROUP, Simd};
use crate::{Activations, Kernels, WeightArena, WeightType};

/// How far ahead of their use weights are asked for. The processor looks ahead by itself, but not as far, and not where
/// several streams alternate.
pub(crate) const PREFETCH_BYTES: usize = 4 << 10;

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

/// Bytes of a file to a step of packing: what is resident twice while a large matrix is packed.
const PACK_STEP_BYTES: usize = 16 << 20;

/// A weight matrix of `rows` outputs by `columns` inputs.
pub struct Matrix {
    weight_type: WeightType,
    rows: usize,
    columns: usize,
    /// Groups of [`GROUP`] rows; the last is filled up with zeros.
    data: Buffer,
    group_bytes: usize,
}

/// Why bytes are no matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// A row must be a whole number of blocks.
    #[error("rows of {columns} weights are no whole number of {weight_type} blocks of {block}")]
    PartialBlock {
        /// The type of the weights.
        weight_type: WeightType,
        /// Weights in a row.
        columns: usize,
        /// Weights in a block.
        block: usize,
    },
    /// The bytes do not have the size that rows and columns ask for.
    #[error("{rows} rows of {columns} {weight_type} weights need {expected} bytes, not {found}")]
    WrongSize {
        /// The type of the weights.
        weight_type: WeightType,
        /// Number of rows.
        rows: usize,
        /// Weights in a row.
        columns: usize,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The system has no memory left.
    #[error("no memory for {bytes} bytes of weights; free some, or take a smaller model")]
    OutOfMemory {
        /// Bytes needed.
        bytes: usize,
    },
}

impl Matrix {
    /// Repacks `rows` rows of `columns` weights as they lie in a file (row-major, whole blocks) into memory of `arena`.
    ///
    /// # Errors
    /// If the bytes are not such rows, or there is no memory for them.
    pub fn pack(
        kernels: &Kernels,
        arena: &mut WeightArena,
        weight_type: WeightType,
        shape: [usize; 2],
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        Self::pack_in_steps(kernels, arena, weight_type, shape, bytes, || {})
    }

    /// As [`Matrix::pack`], and calls `after_step` each time some 16 MiB of `bytes` are packed, and at the end: a caller
    /// that maps them from a file can release the pages, so that a large matrix is never in memory twice.
    ///
    /// # Errors
    /// As [`Matrix::pack`].
    pub fn pack_in_steps(
        kernels: &Kernels,
        arena: &mut WeightArena,
        weight_type: WeightType,
        shape: [usize; 2],
        bytes: &[u8],
        after_step: impl FnMut(),
    ) -> Result<Self, MatrixError> {
        Self::pack_as(kernels, arena, [weight_type; 2], shape, bytes, after_step)
    }

    /// As [`Matrix::pack_in_steps`], of `bytes` that hold weights of the first type, made into weights of the second.
    ///
    /// # Errors
    /// As [`Matrix::pack`].
    ///
    /// # Panics
    /// If the types differ and the second is none of [`WeightType::WRITABLE`].
    pub fn pack_as(
        kernels: &Kernels,
        arena: &mut WeightArena,
        [from, weight_type]: [WeightType; 2],
        [rows, columns]: [usize; 2],
        bytes: &[u8],
        mut after_step: impl FnMut(),
    ) -> Result<Self, MatrixError> {
        let row_bytes_of = |weight_type: WeightType| {
            let block = weight_type.block_weights();
            weight_type.row_bytes(columns).ok_or(MatrixError::PartialBlock { weight_type, columns, block })
        };
        let (row_bytes, packed_row_bytes) = (row_bytes_of(from)?, row_bytes_of(weight_type)?);
        let expected = row_bytes.saturating_mul(rows);
        if bytes.len() != expected {
            return Err(MatrixError::WrongSize {
                weight_type: from,
                rows,
                columns,
                expected,
                found: bytes.len(),
            });
        }
        let group_bytes = if weight_type.is_quantized() {
            quantized::group_bytes(weight_type, columns)
        } else {
            dense::group_bytes(weight_type, columns)
        };
        let groups = rows.div_ceil(GROUP);
        let mut data = arena.allocate(groups * group_bytes)?;
        let packed = Disjoint::new(data.as_mut());
        let step = (PACK_STEP_BYTES / (row_bytes * GROUP).max(1)).max(1);
        for first in (0..groups).step_by(step) {
            kernels.run(step.min(groups - first), columns * GROUP * 8, |_, task| {
                let group = first + task;
                // SAFETY: each task of each step writes its own group.
                let packed = unsafe { packed.part(group * group_bytes, group_bytes) };
                let rows = bytes.chunks_exact(row_bytes.max(1)).skip(group * GROUP).take(GROUP);
                let pack = |rows: &[&[u8]], packed: &mut [u8]| {
                    if weight_type.is_quantized() {
                        quantized::pack_group(weight_type, rows, packed);
                    } else {
                        dense::pack_group(weight_type, rows, packed);
                    }
                };
                if from == weight_type {
                    pack(&rows.collect::<Vec<_>>(), packed);
                } else {
                    let mut values = vec![0.0; columns];
                    let mut converted = vec![0; GROUP * packed_row_bytes];
                    let count = rows.len();
                    for (row, converted) in rows.zip(converted.chunks_exact_mut(packed_row_bytes)) {
                        dequantize_row(from, row, &mut values);
                        quantize_row(kernels.isa(), weight_type, &values, converted);
                    }
                    let rows = converted.chunks_exact(packed_row_bytes).take(count);
                    pack(&rows.collect::<Vec<_>>(), packed);
                }
            });
            after_step();
        }
        Ok(Self { weight_type, rows, columns, data, group_bytes })
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

    /// Writes the weights of row `row` as floats to `out`: an embedding.
    ///
    /// # Panics
    /// If there is no such row or `out` has another length.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.columns, "a row of the matrix");
        let group = self.group(row / GROUP);
        if self.weight_type.is_quantized() {
            quantized::unpack_row(self.weight_type, group, row % GROUP, out);
        } else {
            dense::unpack_row(self.weight_type, group, row % GROUP, out);
        }
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    #[inline(always)]
    fn group(&self, group: usize) -> &[u8] {
        &self.data[group * self.group_bytes..][..self.group_bytes]
    }

    /// The groups of `V` vectors of rows from vector `vector` on, and which part of its group each is.
    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(&self, vector: usize) -> ([&[u8]; V], [usize; V]) {
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
    fn task_groups(&self, tokens: usize) -> usize {
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

/// Where a task's part of a product goes: some groups of rows, for all tokens.
struct Output<'a> {
    /// `[token][row]`, for the rows `rows`.
    values: &'a Disjoint<'a, f32>,
    rows: Range<usize>,
    groups: Range<usize>,
}

impl<'a> Output<'a> {
    /// The part `groups` of a product; `values` are for its rows `rows`, those of the groups among them.
    ///
    /// # Safety
    /// No other part of the same `values` in use has one of these groups.
    unsafe fn new(values: &'a Disjoint<'a, f32>, rows: Range<usize>, groups: Range<usize>) -> Self {
        Self { values, rows, groups }
    }

    /// The vectors of rows of this part: `PARTS` a group.
    fn vectors<S: Simd>(&self) -> Range<usize> {
        self.groups.start * S::PARTS..self.groups.end * S::PARTS
    }

    /// Writes a vector of rows for one token.
    #[inline(always)]
    fn store<S: Simd>(&mut self, simd: S, token: usize, vector: usize, values: S::F32) {
        assert!(self.groups.contains(&(vector / S::PARTS)), "a group of this part");
        let first = vector * S::LANES;
        if first >= self.rows.end {
            // The last group is filled up.
            return;
        }
        let mut lanes = [0.0; GROUP];
        simd.store(values, &mut lanes, 0);
        let len = S::LANES.min(self.rows.end - first);
        // SAFETY: only this part has the group (`new`), and it is borrowed mutably.
        let out = unsafe { self.values.part(token * self.rows.len() + first - self.rows.start, len) };
        out.copy_from_slice(&lanes[..len]);
    }
}

/// Asks for what lies [`PREFETCH_BYTES`] behind the `len` bytes at `at` of each group. Where a group ends, the one that
/// comes after those of this tile follows.
#[inline(always)]
fn prefetch<S: Simd, const V: usize>(simd: S, groups: [&[u8]; V], at: usize, len: usize) {
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

/// Multiplies `x` (tokens by columns) with several matrices in one parallel operator, each product into its own slice:
/// `out[token * rows + row] = dot(matrix row, x token)`.
///
/// # Panics
/// If a slice has not `x.tokens() * matrix.rows()` values or a matrix not `x.columns()` columns, or if `x` is not
/// quantized for a matrix that needs it.
pub fn multiply<const N: usize>(kernels: &Kernels, x: &Activations, products: [(&Matrix, &mut [f32]); N]) {
    let mut tasks = 0;
    let products = products.map(|(matrix, out)| {
        assert_eq!(matrix.columns, x.columns(), "{matrix:?}: inputs");
        assert_eq!(out.len(), x.tokens() * matrix.rows, "{matrix:?}: outputs");
        let first_task = tasks;
        let task_groups = matrix.task_groups(x.tokens());
        tasks += matrix.groups().div_ceil(task_groups);
        (first_task, task_groups, matrix, Disjoint::new(out))
    });
    let weights: usize = products.iter().map(|(.., matrix, _)| matrix.rows * matrix.columns).sum();
    kernels.run(tasks, weights * x.tokens() / tasks.max(1), |_, task| {
        let index = products.iter().rposition(|(first, ..)| *first <= task);
        let index = index.expect("the first product begins with the first task");
        let (first_task, task_groups, matrix, out) = &products[index];
        let first = (task - first_task) * task_groups;
        let groups = first..(first + task_groups).min(matrix.groups());
        // SAFETY: each group of each matrix belongs to one task.
        multiply_groups(kernels, matrix, x, &mut unsafe { Output::new(out, 0..matrix.rows, groups) });
    });
}

/// A task of a product: the groups of `out`.
fn multiply_groups(kernels: &Kernels, matrix: &Matrix, x: &Activations, out: &mut Output<'_>) {
    if matrix.weight_type.is_quantized() {
        quantized::multiply(kernels.isa(), matrix, x, out);
    } else {
        dense::multiply(kernels.isa(), matrix, x, out);
    }
}
