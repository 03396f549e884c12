//! Why a tokenizer cannot be made or used.

use crate::CheckpointError;
use crate::gguf::GgufError;

/// Why a tokenizer could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A field of the metadata is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A file of a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file that a checkpoint has its tokenizer in cannot be used.
    #[error("{file}: {problem}")]
    Unusable {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There are more control tokens than can be searched for.
    #[error("the names of the control tokens cannot be searched for: {0}")]
    ControlNames(#[from] aho_corasick::BuildError),
    /// A field of the metadata makes no sense.
    #[error("{file}: {field}: {problem}")]
    Invalid {
        /// The model file.
        file: String,
        /// The metadata key.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// A text that the tokenizer cannot turn into tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model's tokenizer gives up on a text of {bytes} bytes ({problem}); shorten its longest runs of white space or of \
     one character"
)]
pub struct EncodeError {
    /// Length of the text.
    pub bytes: usize,
    /// What the tokenizer says.
    pub problem: String,
}
