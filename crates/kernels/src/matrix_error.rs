//! Why weights do not become a matrix.

use crate::weight_type::WeightType;

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
