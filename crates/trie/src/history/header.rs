//! The header of a file of drafts: what it is, and where its sections lie.
//!
//! All numbers are little-endian. The file begins with
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | "LKDRAFTS" |
//! | 4 | format version, 1 |
//! | 4 | CRC-32 of the header with zeros here |
//! | 8 | fingerprint of the tokenizer |
//! | 8 | generation: how often this file was replaced by a newer one |
//! | 4 | tokens, breaks included |
//! | 4 | zero |
//! | 24 each | eight sections: offset (8), bytes (8), CRC-32 (4), zero (4) |
//!
//! and its sections are: tokens (4 bytes each, all ones between texts); links (for each token and order where its sequence
//! ended before, 4 bytes each, all ones for nowhere); for each order the table of last ends (8 bytes a slot: end, tag; all
//! ones if free); trust; runners-up.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use super::lookup::ORDERS;
use crate::error::FileProblem;

const MAGIC: &[u8; 8] = b"LKDRAFTS";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = 12;
const SECTIONS_AT: usize = 40;

pub(super) const SECTIONS: usize = 4 + ORDERS.len();
pub(super) const HEADER_BYTES: usize = SECTIONS_AT + 24 * SECTIONS;

pub(super) const TOKENS: usize = 0;
pub(super) const LINKS: usize = 1;
/// The table of the first order.
pub(super) const TABLES: usize = 2;
/// The first of two sections that only the caller understands.
pub(super) const EXTRAS: usize = TABLES + ORDERS.len();

/// What stands in a file's header besides its sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardId {
    /// Of the tokenizer that the token ids belong to.
    pub(crate) fingerprint: u64,
    pub(crate) generation: u64,
}

/// A part of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) checksum: u32,
}

/// A header that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: ShardId,
    /// Tokens, breaks included.
    pub(super) len: u32,
    pub(super) sections: [Section; SECTIONS],
}

impl Header {
    /// Reads the header of `file`, whose token ids must be of the tokenizer with this fingerprint if one is given.
    pub(crate) fn read(file: &mut File, fingerprint: Option<u64>) -> Result<Self, FileProblem> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        file.seek(SeekFrom::Start(0))?;
        file.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        let header = Self::from_bytes(&bytes)?;
        match fingerprint {
            Some(expected) if expected != header.id.fingerprint => {
                Err(FileProblem::Fingerprint { found: header.id.fingerprint, expected })
            }
            _ => Ok(header),
        }
    }

    /// Tokens, breaks included.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FileProblem> {
        if !bytes.starts_with(MAGIC) {
            return Err(FileProblem::NotADraftFile);
        }
        if bytes.len() < HEADER_BYTES {
            return Err(FileProblem::Truncated { expected: HEADER_BYTES as u64, found: bytes.len() as u64 });
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(FileProblem::Version { found: version, supported: VERSION });
        }
        let mut zeroed = bytes.to_vec();
        zeroed[CHECKSUM_AT..][..4].fill(0);
        if crc32fast::hash(&zeroed) != u32_at(bytes, CHECKSUM_AT) {
            return Err(FileProblem::Checksum("header"));
        }
        let header = Self {
            id: ShardId { fingerprint: u64_at(bytes, 16), generation: u64_at(bytes, 24) },
            len: u32_at(bytes, 32),
            sections: std::array::from_fn(|index| {
                let at = SECTIONS_AT + 24 * index;
                Section {
                    offset: u64_at(bytes, at),
                    bytes: u64_at(bytes, at + 8),
                    checksum: u32_at(bytes, at + 16),
                }
            }),
        };
        if header.is_consistent() {
            Ok(header)
        } else {
            Err(FileProblem::Corrupt("the sizes of its sections do not fit the number of tokens"))
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.id.fingerprint.to_le_bytes());
        bytes.extend(self.id.generation.to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend([0; 4]);
        for Section { offset, bytes: size, checksum } in &self.sections {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend(checksum.to_le_bytes());
            bytes.extend([0; 4]);
        }
        let checksum = crc32fast::hash(&bytes);
        bytes[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Whether its sections are of the sizes that so many tokens need.
    fn is_consistent(&self) -> bool {
        let (len, bytes) = (u64::from(self.len), |index: usize| self.sections[index].bytes);
        let is_table = |bytes: u64| bytes == 0 || (bytes.is_multiple_of(8) && (bytes / 8).is_power_of_two());
        self.len != u32::MAX
            && bytes(TOKENS) == 4 * len
            && bytes(LINKS) == 4 * ORDERS.len() as u64 * len
            && (TABLES..EXTRAS).all(|index| is_table(bytes(index)))
    }

    /// Bytes of the whole file, at least.
    pub(crate) fn file_bytes(&self) -> u64 {
        let ends = self.sections.iter().map(|section| section.offset.saturating_add(section.bytes));
        ends.max().unwrap_or(0).max(HEADER_BYTES as u64)
    }

    /// Where a section lies in a file of [`file_bytes`](Self::file_bytes).
    pub(super) fn range(&self, index: usize) -> Range<usize> {
        let Section { offset, bytes, .. } = self.sections[index];
        offset as usize..(offset + bytes) as usize
    }
}

/// The number at `at`, which is in range.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes)
}

/// As [`u32_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes)
}
