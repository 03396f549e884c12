//! Why a model could not be loaded.

use lookahead_kernels::MatrixError;

use crate::checkpoint::CheckpointError;
use crate::gguf::GgufError;

/// Why a file is no model that this engine can run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself, one of its hyperparameters or tensors.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A checkpoint's files, fields or tensors.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor is missing.
    #[error(
        "{file}: tensor {tensor} is missing; the file is incomplete, or a model of another kind than it says"
    )]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A model family that the engine does not know.
    #[error("{file}: architecture {found:?} is not supported; supported: {supported}")]
    UnknownArchitecture {
        /// The file.
        file: String,
        /// What the file says.
        found: String,
        /// What would do.
        supported: String,
    },
    /// A tensor's shape contradicts the hyperparameters.
    #[error("{file}: tensor {tensor}: expected {expected} (rows x columns), found {found}")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape that the hyperparameters ask for.
        expected: String,
        /// The shape in the file.
        found: String,
    },
    /// A quantized tensor whose rows the kernels cannot multiply.
    #[error("{file}: tensor {tensor}: {source}")]
    Matrix {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: MatrixError,
    },
}
