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
//! A model in several files is opened by the first of them.
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
mod parts;
mod tensor;
mod tensor_type;
mod value;
mod writer;

use std::fmt;
use std::path::Path;

pub use array::{Array, Strings};
pub use error::{GgufError, MetadataProblem, PartProblem, TensorProblem};
pub use metadata::Metadata;
pub use parts::part_paths;
pub use tensor::{Tensor, TensorInfo};
pub use value::Value;
pub use writer::Writer;

use crate::mapped_file::Source;
use tensor::TensorTable;

/// An open model file, checked: metadata, and tensors as byte slices.
pub struct GgufFile {
    name: String,
    /// The file, and those that the model goes on in.
    sources: Vec<Source>,
    metadata: Metadata,
    tensors: TensorTable,
}

impl GgufFile {
    /// Maps the file at `path` into memory and checks it. Tensor bytes are read from disk when they are first used. If it is the
    /// first of several parts, the others are opened as well.
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
        let first = Self::from_source(name, map(path)?)?;
        match parts::place(&first.metadata)? {
            None => Ok(first),
            Some((0, count)) => first.with_parts(path, count),
            Some(_) => {
                let beginning = part_paths(path).swap_remove(0);
                Err(PartProblem::NotTheFirst(beginning.display().to_string()).of(&first.name))
            }
        }
    }

    /// The model of which this is the first of `count` parts.
    fn with_parts(mut self, path: &Path, count: u64) -> Result<Self, GgufError> {
        let paths = part_paths(path);
        if paths.len() as u64 != count || paths[0] != path {
            return Err(PartProblem::Renamed(count).of(&self.name));
        }
        let mut tables = vec![self.tensors];
        for (number, path) in (1..).zip(&paths[1..]) {
            let name = path.display().to_string();
            let source = map(path)?;
            let (metadata, tensors) = parse::parse(&name, source.bytes())?;
            if parts::place(&metadata)? != Some((number, count)) {
                return Err(PartProblem::OfAnother { number: number + 1, count }.of(&name));
            }
            self.sources.push(source);
            tables.push(tensors);
        }
        self.tensors = TensorTable::joined(&self.name, tables)?;
        let found = self.tensors.infos().len() as u64;
        match self.metadata.u64("split.tensors.count")? {
            Some(expected) if expected != found => {
                Err(PartProblem::Tensors { expected, found }.of(&self.name))
            }
            _ => Ok(self),
        }
    }

    /// Reads a file that is already in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, GgufError> {
        let file = Self::from_source(name.into(), Source::Memory(bytes))?;
        match parts::place(&file.metadata)? {
            None => Ok(file),
            Some((_, count)) => Err(PartProblem::Renamed(count).of(&file.name)),
        }
    }

    fn from_source(name: String, source: Source) -> Result<Self, GgufError> {
        let (metadata, tensors) = parse::parse(&name, source.bytes())?;
        Ok(Self { name, sources: vec![source], metadata, tensors })
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
        self.sources.iter().for_each(Source::release_pages);
    }

    fn with_bytes<'a>(&'a self, info: &'a TensorInfo) -> Tensor<'a> {
        Tensor { info, bytes: &self.sources[info.part()].bytes()[info.byte_range()] }
    }
}

fn map(path: &Path) -> Result<Source, GgufError> {
    Source::map(path).map_err(|source| GgufError::Io { file: path.display().to_string(), source })
}

impl fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GgufFile")
            .field("name", &self.name)
            .field("bytes", &self.sources.iter().map(|source| source.bytes().len()).sum::<usize>())
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors().len())
            .finish()
    }
}
