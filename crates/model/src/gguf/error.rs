//! What can be wrong with a GGUF file, told to the person who has it.

use std::fmt::{self, Write as _};
use std::io;

use lookahead_kernels::WeightType;

use super::format::MAX_DIMENSIONS;
use super::tensor_type;

/// Why a GGUF file could not be opened, or does not hold what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system could not read the file.
    #[error("{file}: cannot read the file: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file does not start with `GGUF`.
    #[error("{file}: not a GGUF file: it starts with {}, not with \"GGUF\"; give a model in GGUF format", quoted(.found))]
    NotGguf {
        /// The file.
        file: String,
        /// Its first four bytes.
        found: Vec<u8>,
    },
    /// The file was written for big-endian machines.
    #[error(
        "{file}: big-endian GGUF is not supported; get or convert the little-endian version of this model"
    )]
    BigEndian {
        /// The file.
        file: String,
    },
    /// A version of the format that this reader does not know.
    #[error("{file}: GGUF version {version} is not supported; supported: 2, 3; convert the model again")]
    UnsupportedVersion {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// The file ends before something that it announces.
    #[error(
        "{file}: {field}: the file ends early: {needed} bytes needed at offset {offset}, {available} left; \
         the file is damaged or its download incomplete: fetch it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// What was being read.
        field: String,
        /// Where it starts, in bytes from the start of the file.
        offset: u64,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that the file still has there.
        available: u64,
    },
    /// A count that the rest of the file cannot hold.
    #[error(
        "{file}: {field}: {count} entries announced, but the rest of the file has room for at most {most}; \
         the file is damaged: fetch it again"
    )]
    CountTooLarge {
        /// The file.
        file: String,
        /// What is counted.
        field: String,
        /// The count in the file.
        count: u64,
        /// The most entries that the remaining bytes could hold.
        most: u64,
    },
    /// A metadata key or tensor name that is not text.
    #[error("{file}: {field}: {} is not valid UTF-8 of at most 65535 bytes; the file is damaged", quoted(.found))]
    BadName {
        /// The file.
        file: String,
        /// Whose name it is.
        field: String,
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// A metadata value is missing, damaged or of the wrong type.
    #[error("{file}: metadata {}: {problem}", printable(.key))]
    Metadata {
        /// The file.
        file: String,
        /// The metadata key.
        key: String,
        /// What is wrong.
        problem: MetadataProblem,
    },
    /// A tensor is missing, damaged or unsupported.
    #[error("{file}: tensor {}: {problem}", printable(.tensor))]
    Tensor {
        /// The file.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        problem: TensorProblem,
    },
    /// The file is a part of a model, and the model cannot be put together.
    #[error("{file}: {problem}")]
    Part {
        /// The file.
        file: String,
        /// What is wrong.
        problem: PartProblem,
    },
}

/// What is wrong with a model in several files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartProblem {
    /// Another part than the first was given.
    #[error("this is a later part of a model in several files; give the first: {0}")]
    NotTheFirst(String),
    /// The other parts cannot be found by the name of the first.
    #[error(
        "this is the first of {0} files of a model, and its name does not say so; call them NAME-00001-of-{0:05}.gguf and so on, \
         side by side"
    )]
    Renamed(u64),
    /// What lies there is not that part.
    #[error("this is not part {number} of {count}, as its name says; fetch it again")]
    OfAnother {
        /// Counted from 1.
        number: u64,
        /// Parts of the model.
        count: u64,
    },
    /// The parts have more or fewer tensors than the first announces.
    #[error(
        "{expected} tensors are announced, and {found} are in all parts; a part is damaged or of another model"
    )]
    Tensors {
        /// As the first part says.
        expected: u64,
        /// In all parts.
        found: u64,
    },
}

impl PartProblem {
    pub(super) fn of(self, file: &str) -> GgufError {
        GgufError::Part { file: file.to_owned(), problem: self }
    }
}

/// What is wrong with a metadata value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataProblem {
    /// The model needs a value that is not there.
    #[error("missing: the file is not a complete model")]
    Missing,
    /// Two values have the same key.
    #[error("appears twice; the file is damaged")]
    Duplicate,
    /// A number of a value type that the format does not have.
    #[error("unknown value type {0}; the file is damaged or newer than this reader")]
    UnknownType(u32),
    /// A boolean byte other than 0 and 1.
    #[error("a boolean is 0 or 1, found {0}; the file is damaged")]
    BadBool(u8),
    /// Arrays of arrays of arrays …
    #[error("arrays nest deeper than {0} levels, which no model needs")]
    NestedTooDeep(usize),
    /// A value of another type, or one outside the wanted range.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The type that the model needs.
        expected: &'static str,
        /// Type and value in the file.
        found: String,
    },
    /// An alignment that tensors cannot have.
    #[error("must be a power of two from 8 to 65536, found {0}; the file is damaged")]
    BadAlignment(u64),
}

/// What is wrong with a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    /// The model needs a tensor that is not there.
    #[error("missing: the file is not a complete model")]
    Missing,
    /// Two tensors have the same name.
    #[error("appears twice; the file is damaged")]
    Duplicate,
    /// Weights in a format that there are no kernels for; the number is GGML's.
    #[error(
        "type {} is not supported; supported: {}; use a model file quantized to one of these",
        tensor_type::describe(*.0), tensor_type::supported()
    )]
    UnsupportedType(u32),
    /// No dimension, or too many.
    #[error("{0} dimensions, but a tensor has 1 to {MAX_DIMENSIONS}; the file is damaged")]
    Dimensions(u64),
    /// A dimension of length 0.
    #[error("shape {0:?} has an empty dimension; the file is damaged")]
    EmptyDimension(Vec<u64>),
    /// More weights than a file can hold.
    #[error("shape {0:?} is too large; the file is damaged")]
    TooLarge(Vec<u64>),
    /// The row is not a whole number of blocks.
    #[error("rows of {columns} weights are not whole blocks of {} ({weight_type}); the file is damaged", .weight_type.block_weights())]
    PartialBlock {
        /// Weights in a row.
        columns: u64,
        /// The weight type, whose blocks do not divide the row.
        weight_type: WeightType,
    },
    /// The bytes do not start at a multiple of the alignment.
    #[error("its offset {offset} is not a multiple of the alignment {alignment}; the file is damaged")]
    Misaligned {
        /// Offset into the tensor data, in bytes.
        offset: u64,
        /// The file's alignment, in bytes.
        alignment: u32,
    },
    /// The bytes reach beyond the end of the file.
    #[error(
        "its {bytes} bytes at offset {offset} reach beyond the end of the file, which has {available} bytes of tensor data; \
         the file is damaged or its download incomplete: fetch it again"
    )]
    OutOfRange {
        /// Offset into the tensor data, in bytes.
        offset: u64,
        /// Size of the tensor, in bytes.
        bytes: u64,
        /// Bytes of tensor data in the file.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("its bytes overlap those of tensor {}; the file is damaged", printable(.0))]
    Overlap(String),
    /// The bytes given to a writer do not fit the shape.
    #[error("shape and type need {expected} bytes, {found} given")]
    WrongSize {
        /// Bytes that shape and type need.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
}

impl MetadataProblem {
    pub(super) fn in_key(self, file: &str, key: &str) -> GgufError {
        GgufError::Metadata { file: file.to_owned(), key: key.to_owned(), problem: self }
    }
}

impl TensorProblem {
    pub(super) fn in_tensor(self, file: &str, tensor: &str) -> GgufError {
        GgufError::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), problem: self }
    }
}

/// Longest piece of a file's own text that an error repeats, in characters.
const MAX_PRINTED: usize = 80;

/// Text from a file, safe for a terminal: control characters escaped, long text cut.
pub(super) fn printable(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        for c in text.chars().take(MAX_PRINTED) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if text.chars().nth(MAX_PRINTED).is_some() { f.write_char('…') } else { Ok(()) }
    })
}

/// Bytes from a file as a quoted string.
fn quoted(bytes: &[u8]) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        let shown = &bytes[..bytes.len().min(MAX_PRINTED)];
        write!(f, "\"{}\"{}", shown.escape_ascii(), if shown.len() < bytes.len() { "…" } else { "" })
    })
}
