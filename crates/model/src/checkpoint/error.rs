//! What can be wrong with a checkpoint.

use std::io;
use std::path::Path;

use safetensors::SafeTensorError;

use super::files::{CONFIG, INDEX, SINGLE, display};

/// Why a folder is no checkpoint that can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no JSON, or not what it should be.
    #[error("{file}: {source}")]
    Json {
        /// The file.
        file: String,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// The hyperparameters are no JSON object.
    #[error("{file}: not a JSON object")]
    NoObject {
        /// The file.
        file: String,
    },
    /// A file is missing.
    #[error("{folder}: no {missing}; {hint}")]
    MissingFile {
        /// The folder.
        folder: String,
        /// The file, or files one of which would do.
        missing: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file is no safetensors file, or damaged.
    #[error("{file}: {source}; download it again")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        source: SafeTensorError,
    },
    /// The index names a file outside the folder.
    #[error("{file}: {name:?} is no name of a file beside it")]
    FileName {
        /// The index.
        file: String,
        /// What it names.
        name: String,
    },
    /// Two files have the same tensor.
    #[error("{file}: tensor {tensor} is in another file as well")]
    Twice {
        /// The second file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor is missing.
    #[error("{file}: tensor {tensor} is missing")]
    MissingTensor {
        /// The file that should have it.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor's values are of a type that is not supported.
    #[error("{file}: tensor {tensor}: type {found} is not supported; supported: F32, F16, BF16, F8_E4M3")]
    Type {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// Weights of eight bits have no scales, or not as many as blocks.
    #[error(
        "{file}: tensor {tensor}: {} x {} weights in blocks of {} x {} with {} x {} scales",
        weights[0], weights[1], block[0], block[1], found[0], found[1]
    )]
    Scales {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its rows and columns.
        weights: [usize; 2],
        /// Rows and columns of a block.
        block: [usize; 2],
        /// Rows and columns of the scales.
        found: [usize; 2],
    },
    /// A field of `config.json` is missing, or not what it should be.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Field {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl CheckpointError {
    pub(super) fn no_config(folder: &Path) -> Self {
        let hint = "a checkpoint is a folder with config.json, safetensors files and tokenizer.json";
        Self::MissingFile { folder: display(folder), missing: CONFIG.to_owned(), hint }
    }

    pub(super) fn no_weights(folder: &Path) -> Self {
        let hint = if folder.join("pytorch_model.bin").exists()
            || folder.join("pytorch_model.bin.index.json").exists()
        {
            "pickled weights run code when they are loaded and are not read; save the model again with \
             model.save_pretrained(folder, safe_serialization=True)"
        } else {
            "the download may be incomplete"
        };
        Self::MissingFile { folder: display(folder), missing: format!("{SINGLE} or {INDEX}"), hint }
    }
}
