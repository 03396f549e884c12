//! A position in a file's bytes from which checked reads proceed.

use std::fmt;

use super::error::{GgufError, MetadataProblem, printable};

/// What a read was for: becomes text only when the read fails.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    /// Part of the header.
    Header(&'static str),
    /// The metadata entry with this index, whose key is not known yet.
    MetadataEntry(u64),
    /// The metadata value with this key.
    Metadata(&'a str),
    /// The tensor table's entry with this index, whose name is not known yet.
    TensorEntry(u64),
    /// The tensor with this name.
    Tensor(&'a str),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(part) => f.write_str(part),
            Self::MetadataEntry(index) => write!(f, "metadata entry {index}"),
            Self::Metadata(key) => write!(f, "metadata {}", printable(key)),
            Self::TensorEntry(index) => write!(f, "tensor table entry {index}"),
            Self::Tensor(name) => write!(f, "tensor {}", printable(name)),
        }
    }
}

/// Longest metadata key or tensor name, in bytes; the format's own limit for keys.
const MAX_NAME_BYTES: usize = 65_535;

/// Reads forward through the bytes of a file.
pub(super) struct Cursor<'a> {
    pub(super) file: &'a str,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a str, bytes: &'a [u8]) -> Self {
        Self { file, bytes, position: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64, field: Field<'_>) -> Result<&'a [u8], GgufError> {
        let rest = &self.bytes[self.position..];
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(GgufError::Truncated {
                file: self.file.to_owned(),
                field: field.to_string(),
                offset: self.position as u64,
                needed: len,
                available: rest.len() as u64,
            }),
        }
    }

    fn array<const N: usize>(&mut self, field: Field<'_>) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, field)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, field: Field<'_>) -> Result<u32, GgufError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: Field<'_>) -> Result<u64, GgufError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// `count` numbers of `N` bytes each.
    pub(super) fn numbers<const N: usize, T>(
        &mut self,
        count: u64,
        from_le_bytes: impl Fn([u8; N]) -> T,
        field: Field<'_>,
    ) -> Result<Vec<T>, GgufError> {
        let bytes = self.take(count.saturating_mul(N as u64), field)?;
        Ok(bytes.as_chunks().0.iter().map(|&chunk| from_le_bytes(chunk)).collect())
    }

    /// Fails if `count` entries of at least `entry_bytes` each cannot follow: what passes is a safe capacity.
    pub(super) fn check_count(
        &self,
        count: u64,
        entry_bytes: usize,
        field: Field<'_>,
    ) -> Result<usize, GgufError> {
        let most = (self.bytes.len() - self.position) / entry_bytes;
        usize::try_from(count).ok().filter(|&count| count <= most).ok_or_else(|| GgufError::CountTooLarge {
            file: self.file.to_owned(),
            field: field.to_string(),
            count,
            most: most as u64,
        })
    }

    /// A string's bytes: a length and as many bytes.
    pub(super) fn string(&mut self, field: Field<'_>) -> Result<&'a [u8], GgufError> {
        let len = self.u64(field)?;
        self.take(len, field)
    }

    /// A metadata key or tensor name.
    pub(super) fn name(&mut self, field: Field<'_>) -> Result<&'a str, GgufError> {
        let bytes = self.string(field)?;
        let text = if bytes.len() <= MAX_NAME_BYTES { std::str::from_utf8(bytes).ok() } else { None };
        text.ok_or_else(|| GgufError::BadName {
            file: self.file.to_owned(),
            field: field.to_string(),
            found: bytes[..bytes.len().min(100)].to_vec(),
        })
    }

    /// A boolean for each of `bytes`.
    pub(super) fn bools(&self, bytes: &[u8], key: &str) -> Result<Vec<bool>, GgufError> {
        let bool = |&byte: &u8| match byte {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(MetadataProblem::BadBool(other).in_key(self.file, key)),
        };
        bytes.iter().map(bool).collect()
    }
}
