//! Tensors as they lie in files.

use std::borrow::Cow;

use lookahead_kernels::{WeightType, dequantize_row};

use crate::checkpoint::Float8;

/// What there is to know of a tensor without its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorListing {
    /// What the file calls it.
    pub name: String,
    /// How its weights are stored.
    pub type_name: String,
    /// Lengths of the dimensions, that of a row first.
    pub shape: Vec<u64>,
    /// Size in bytes.
    pub bytes: u64,
}

/// A tensor as it lies in a file: `rows` rows of `columns` weights.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor<'a> {
    /// What the file calls it.
    pub(crate) name: String,
    pub(crate) weight_type: WeightType,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) bytes: StoredBytes<'a>,
}

impl StoredTensor<'_> {
    /// The weights as floats, row by row.
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        let row_bytes = self.weight_type.row_bytes(self.columns).unwrap_or(0);
        let (rows, bytes) = (values.chunks_exact_mut(self.columns.max(1)), self.bytes.read());
        for (row, bytes) in rows.zip(bytes.chunks_exact(row_bytes.max(1))) {
            dequantize_row(self.weight_type, bytes, row);
        }
        values
    }
}

/// The weights of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum StoredBytes<'a> {
    /// As they are.
    Mapped(&'a [u8]),
    /// With scales that are still to be multiplied in.
    Scaled(Float8<'a>),
}

impl<'a> StoredBytes<'a> {
    /// The bytes of the weights.
    pub(crate) fn read(&self) -> Cow<'a, [u8]> {
        match self {
            Self::Mapped(bytes) => Cow::Borrowed(bytes),
            Self::Scaled(weights) => Cow::Owned(weights.to_bytes()),
        }
    }
}
