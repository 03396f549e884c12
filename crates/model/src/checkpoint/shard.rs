//! One safetensors file, mapped.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use lookahead_kernels::WeightType;
use safetensors::{Dtype, SafeTensors};

use super::error::CheckpointError;
use super::files::display;
use super::float8::Float8;
use crate::mapped_file::Source;
use crate::stored_tensor::{StoredBytes, StoredTensor, TensorListing};

/// A safetensors file: where its tensors lie.
pub(super) struct Shard {
    file: String,
    source: Source,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Shard {
    /// Maps the file and checks its table.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = display(path);
        let source =
            Source::map(path).map_err(|source| CheckpointError::Io { file: file.clone(), source })?;
        let bytes = source.bytes();
        let parsed = SafeTensors::deserialize(bytes);
        let parsed = parsed.map_err(|source| CheckpointError::Safetensors { file: file.clone(), source })?;
        let start = bytes.as_ptr() as usize;
        let tensors = parsed.iter().map(|(name, view)| {
            let first = view.data().as_ptr() as usize - start;
            let bytes = first..first + view.data().len();
            (name.to_owned(), Entry { dtype: view.dtype(), shape: view.shape().to_vec(), bytes })
        });
        let tensors = tensors.collect();
        Ok(Self { file, source, tensors })
    }

    pub(super) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = TensorListing> {
        self.tensors.iter().map(|(name, entry)| TensorListing {
            name: name.clone(),
            type_name: format!("{:?}", entry.dtype),
            shape: entry.shape.iter().rev().map(|&length| length as u64).collect(),
            bytes: entry.bytes.len() as u64,
        })
    }

    /// The tensor, whose last dimension is a row. Weights of eight bits take the scales and the size of a block that `scales` gives.
    pub(super) fn tensor<'a>(
        &'a self,
        name: &str,
        scales: impl FnOnce() -> Result<(StoredTensor<'a>, [usize; 2]), CheckpointError>,
    ) -> Result<StoredTensor<'a>, CheckpointError> {
        let missing = || CheckpointError::MissingTensor { file: self.file.clone(), tensor: name.to_owned() };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let columns = entry.shape.last().copied().unwrap_or(1);
        let rows = entry.shape.iter().rev().skip(1).product();
        let bytes = &self.source.bytes()[entry.bytes.clone()];
        let (weight_type, bytes) = match entry.dtype {
            Dtype::F32 => (WeightType::F32, StoredBytes::Mapped(bytes)),
            Dtype::F16 => (WeightType::F16, StoredBytes::Mapped(bytes)),
            Dtype::BF16 => (WeightType::Bf16, StoredBytes::Mapped(bytes)),
            Dtype::F8_E4M3 if entry.shape.len() <= 2 => {
                let (scales, block) = scales()?;
                let scaled = Float8::new(bytes, [rows, columns], &scales, block);
                let scaled = scaled.ok_or_else(|| CheckpointError::Scales {
                    file: self.file.clone(),
                    tensor: name.to_owned(),
                    weights: [rows, columns],
                    block,
                    found: [scales.rows, scales.columns],
                })?;
                (Float8::WEIGHT_TYPE, StoredBytes::Scaled(scaled))
            }
            other => {
                return Err(CheckpointError::Type {
                    file: self.file.clone(),
                    tensor: name.to_owned(),
                    found: format!("{other:?} in {} dimensions", entry.shape.len()),
                });
            }
        };
        Ok(StoredTensor { name: name.to_owned(), weight_type, rows, columns, bytes })
    }

    pub(super) fn release_pages(&self) {
        self.source.release_pages();
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("file", &self.file)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
