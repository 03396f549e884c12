//! Tensors: the table of them, and their bytes.

use std::ops::Range;

use lookahead_kernels::WeightType;

use super::error::{GgufError, TensorProblem};
use super::format::MAX_DIMENSIONS;

/// An entry of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its weights are stored.
    pub weight_type: WeightType,
    /// Lengths of the dimensions, fastest first: `shape[0]` is the length of a row.
    pub shape: Vec<u64>,
    /// In which part of the model it is, counted from 0.
    part: usize,
    /// First byte in the file.
    start: usize,
    /// Size in bytes.
    size: usize,
}

impl TensorInfo {
    /// Checks shape and place: `offset` counts from `data_start`, and the file has `file_bytes` bytes.
    pub(super) fn new(
        name: &str,
        weight_type: WeightType,
        shape: Vec<u64>,
        offset: u64,
        alignment: u32,
        data: Range<usize>,
    ) -> Result<Self, TensorProblem> {
        let size = size_bytes(weight_type, &shape)?;
        if !offset.is_multiple_of(alignment.into()) {
            return Err(TensorProblem::Misaligned { offset, alignment });
        }
        let start = usize::try_from(offset).ok().and_then(|offset| data.start.checked_add(offset));
        let inside = start.filter(|start| start.checked_add(size).is_some_and(|end| end <= data.end));
        match inside {
            Some(start) => Ok(Self { name: name.to_owned(), weight_type, shape, part: 0, start, size }),
            None => {
                Err(TensorProblem::OutOfRange { offset, bytes: size as u64, available: data.len() as u64 })
            }
        }
    }

    /// Length of a row, in weights: the dimension that products reduce over.
    pub fn columns(&self) -> usize {
        self.shape.first().map_or(1, |&columns| columns as usize)
    }

    /// Number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self.shape.iter().skip(1).product::<u64>() as usize
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.size
    }

    /// In which part of the model it is, counted from 0.
    pub(super) fn part(&self) -> usize {
        self.part
    }

    /// Where the tensor's bytes lie in the file.
    pub(super) fn byte_range(&self) -> Range<usize> {
        self.start..self.start + self.size
    }
}

/// Bytes of a tensor of this type and shape; an error if there can be no such tensor.
pub(super) fn size_bytes(weight_type: WeightType, shape: &[u64]) -> Result<usize, TensorProblem> {
    if shape.is_empty() || shape.len() > MAX_DIMENSIONS {
        return Err(TensorProblem::Dimensions(shape.len() as u64));
    }
    if shape.contains(&0) {
        return Err(TensorProblem::EmptyDimension(shape.to_vec()));
    }
    let too_large = || TensorProblem::TooLarge(shape.to_vec());
    let mut lengths = shape.iter().map(|&length| usize::try_from(length).ok());
    let weights = lengths.try_fold(1usize, |product, length| product.checked_mul(length?));
    let weights = weights.ok_or_else(too_large)?;
    let columns = shape[0] as usize; // a factor of `weights`, which fits
    if !columns.is_multiple_of(weight_type.block_weights()) {
        return Err(TensorProblem::PartialBlock { columns: shape[0], weight_type });
    }
    let size = weight_type.row_bytes(columns).and_then(|row_bytes| row_bytes.checked_mul(weights / columns));
    size.filter(|&size| isize::try_from(size).is_ok()).ok_or_else(too_large)
}

/// A tensor of an open file.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Name, type, shape.
    pub info: &'a TensorInfo,
    /// Its rows, one after the other, each of whole blocks. Aligned to 1 byte only.
    pub bytes: &'a [u8],
}

impl Tensor<'_> {
    /// As [`TensorInfo::columns`].
    pub fn columns(&self) -> usize {
        self.info.columns()
    }

    /// As [`TensorInfo::rows`].
    pub fn rows(&self) -> usize {
        self.info.rows()
    }
}

/// The tensors of a file, in its order, found by name.
pub(super) struct TensorTable {
    infos: Vec<TensorInfo>,
    /// Indices of `infos`, by name.
    sorted: Vec<usize>,
}

impl TensorTable {
    /// Checks that no two tensors share a name or bytes.
    pub(super) fn new(file: &str, infos: Vec<TensorInfo>) -> Result<Self, GgufError> {
        let mut sorted: Vec<usize> = (0..infos.len()).collect();
        sorted.sort_unstable_by_key(|&index| infos[index].start);
        for pair in sorted.windows(2) {
            let (before, after) = (&infos[pair[0]], &infos[pair[1]]);
            if before.byte_range().end > after.start {
                return Err(TensorProblem::Overlap(before.name.clone()).in_tensor(file, &after.name));
            }
        }

        Self::sorted(file, infos)
    }

    /// The tensors of all parts of a model, of which `file` is the first.
    pub(super) fn joined(file: &str, parts: Vec<Self>) -> Result<Self, GgufError> {
        let of_part = |(part, table): (usize, Self)| {
            table.infos.into_iter().map(move |info| TensorInfo { part, ..info })
        };
        Self::sorted(file, parts.into_iter().enumerate().flat_map(of_part).collect())
    }

    /// Checks that no two tensors share a name.
    fn sorted(file: &str, infos: Vec<TensorInfo>) -> Result<Self, GgufError> {
        let mut sorted: Vec<usize> = (0..infos.len()).collect();
        sorted.sort_unstable_by(|&a, &b| infos[a].name.cmp(&infos[b].name));
        if let Some(pair) = sorted.windows(2).find(|pair| infos[pair[0]].name == infos[pair[1]].name) {
            return Err(TensorProblem::Duplicate.in_tensor(file, &infos[pair[0]].name));
        }
        Ok(Self { infos, sorted })
    }

    pub(super) fn infos(&self) -> &[TensorInfo] {
        &self.infos
    }

    pub(super) fn find(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.sorted.binary_search_by(|&index| self.infos[index].name.as_str().cmp(name));
        found.ok().map(|at| &self.infos[self.sorted[at]])
    }
}
