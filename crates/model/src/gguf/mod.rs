//! GGUF model files: a reader that survives hostile files, and a writer.
//!
//! A GGUF file is a header, *metadata* (named values: hyperparameters, vocabulary, chat template), a table of *tensors*
//! and their bytes. [`GgufFile::open`] maps the file and checks everything that can be wrong with it once, so that
//! tensors are plain byte slices afterwards. What it promises for any input, damaged or malicious:
//!
//! - no panic, and an error that names the file and the metadata key or tensor;
//! - no allocation that the file's own size does not justify;
//! - every tensor lies inside the file, is aligned, overlaps no other, and holds whole rows of whole blocks.
//!
//! Versions 2 and 3 are read, little-endian; version 3 is written. Format:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! ```
//! use lookahead_kernels::WeightType;
//! use lookahead_model::gguf::{GgufFile, Writer};
//!
//! let mut writer = Writer::new("tiny.gguf");
//! writer.metadata("general.architecture", "llama");
//! writer.tensor("output_norm.weight", WeightType::F32, &[2], vec![0; 8])?;
//!
//! let file = GgufFile::from_bytes("tiny.gguf", writer.to_bytes())?;
//! assert_eq!(file.metadata().require_str("general.architecture")?, "llama");
//! assert_eq!(file.require("output_norm.weight")?.columns(), 2);
//! # Ok::<(), lookahead_model::gguf::GgufError>(())
//! ```

mod array;
mod cursor;
mod error;
mod format;
mod metadata;
mod parse;
mod tensor;
mod tensor_type;
mod value;
mod writer;

use std::fmt;
use std::path::Path;

pub use array::{Array, Strings};
pub use error::{GgufError, MetadataProblem, TensorProblem};
pub use metadata::Metadata;
pub use tensor::{Tensor, TensorInfo};
pub use value::Value;
pub use writer::Writer;

use crate::mapped_file::Source;
use tensor::TensorTable;

/// An open model file, checked: metadata, and tensors as byte slices.
pub struct GgufFile {
    name: String,
    source: Source,
    metadata: Metadata,
    tensors: TensorTable,
}

impl GgufFile {
    /// Maps the file at `path` into memory and checks it. Tensor bytes are read from disk when they are first used.
    ///
    /// The file must not be changed while it is open: a mapping shows the change, and a shortened file ends the
    /// process when a missing page is read. Replacing it by rename is fine.
    ///
    /// # Errors
    /// If the file cannot be read, is not GGUF version 2 or 3 in little-endian, is damaged, or holds a tensor of an
    /// unsupported type.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match Source::map(path) {
            Ok(source) => Self::from_source(name, source),
            Err(source) => Err(GgufError::Io { file: name, source }),
        }
    }

    /// Reads a file that is already in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::from_source(name.into(), Source::Memory(bytes))
    }

    fn from_source(name: String, source: Source) -> Result<Self, GgufError> {
        let (metadata, tensors) = parse::parse(&name, source.bytes())?;
        Ok(Self { name, source, metadata, tensors })
    }

    /// The file's name in errors: the path as it was given to [`GgufFile::open`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hyperparameters, vocabulary, chat template.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The table of tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.tensors.infos()
    }

    /// The tensor called `name`, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.find(name).map(|info| self.with_bytes(info))
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// [`TensorProblem::Missing`] if the file does not have it.
    pub fn require(&self, name: &str) -> Result<Tensor<'_>, GgufError> {
        self.tensor(name).ok_or_else(|| TensorProblem::Missing.in_tensor(&self.name, name))
    }

    /// Tells the operating system that the file's bytes will not be needed soon, so that its pages stop counting as
    /// memory of this process. They stay valid: a later read gets them from the file again. A no-op for a file in
    /// memory, and on systems without such a hint.
    pub fn release_pages(&self) {
        self.source.release_pages();
    }

    fn with_bytes<'a>(&'a self, info: &'a TensorInfo) -> Tensor<'a> {
        Tensor { info, bytes: &self.source.bytes()[info.byte_range()] }
    }
}

impl fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GgufFile")
            .field("name", &self.name)
            .field("bytes", &self.source.bytes().len())
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors().len())
            .finish()
    }
}
