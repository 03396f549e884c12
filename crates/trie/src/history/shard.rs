//! A history in a file: written once, mapped into memory, read by any number of processes.
//!
//! All numbers are little-endian. The file begins with a header:
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
//!
//! Opening reads the header and maps the rest, however large. So nothing of the large sections is believed: an end is used if
//! it is in range and links go up only, which a damaged file can make wrong but not endless. [`Shard::check`] reads all.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::ops::Range;

use memmap2::Mmap;

use super::slots::{self, FREE};
use super::{BREAK, History, Log, NONE, ORDERS};
use crate::TokenId;
use crate::error::FileProblem;

const MAGIC: &[u8; 8] = b"LKDRAFTS";
const VERSION: u32 = 1;
const SECTIONS: usize = 4 + ORDERS.len();
const HEADER_BYTES: usize = 40 + 24 * SECTIONS;
const CHECKSUM_AT: usize = 12;

const TOKENS: usize = 0;
const LINKS: usize = 1;
const TABLES: usize = 2;
/// The first of two sections that only the caller understands.
const EXTRAS: usize = TABLES + ORDERS.len();

/// Names of the sections, for errors.
const NAMES: [&str; SECTIONS] =
    ["tokens", "links", "table 1", "table 2", "table 4", "table 8", "trust", "runners-up"];

/// What stands in a file's header besides its sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardId {
    /// Of the tokenizer that the token ids belong to.
    pub(crate) fingerprint: u64,
    pub(crate) generation: u64,
}

/// A mapped file.
pub(crate) struct Shard {
    map: Mmap,
    id: ShardId,
    len: u32,
    sections: [(Range<usize>, u32); SECTIONS],
}

/// Counts and sums what is written.
struct Section<W: Write> {
    out: W,
    bytes: u64,
    checksum: crc32fast::Hasher,
}

impl<W: Write> Write for Section<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        self.checksum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes `log`, to which nobody appends meanwhile, and two sections that only the caller understands.
pub(crate) fn write(log: &Log, id: ShardId, extras: [&[u8]; 2], file: &mut File) -> io::Result<()> {
    let len = log.len();
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend([0; 4]);
    header.extend(id.fingerprint.to_le_bytes());
    header.extend(id.generation.to_le_bytes());
    header.extend(len.to_le_bytes());
    header.extend([0; 4]);

    let mut offset = HEADER_BYTES as u64;
    file.seek(SeekFrom::Start(offset))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for index in 0..SECTIONS {
        let mut section = Section { out: &mut out, bytes: 0, checksum: crc32fast::Hasher::new() };
        match index {
            TOKENS => {
                for token in log.tokens(0..len) {
                    section.write_all(&token.to_le_bytes())?;
                }
            }
            LINKS => {
                for end in 0..len {
                    for order in 0..ORDERS.len() {
                        section.write_all(&log.link(order, end).to_le_bytes())?;
                    }
                }
            }
            TABLES..EXTRAS => {
                let table = log.table(index - TABLES);
                for slot in 0..table.len() {
                    section.write_all(&table.get(slot).to_le_bytes())?;
                }
            }
            _ => section.write_all(extras[index - EXTRAS])?,
        }
        let Section { bytes, checksum, .. } = section;
        header.extend(offset.to_le_bytes());
        header.extend(bytes.to_le_bytes());
        header.extend(checksum.finalize().to_le_bytes());
        header.extend([0; 4]);
        offset += bytes;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let checksum = crc32fast::hash(&header);
    header[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)
}

impl Shard {
    /// Maps `file`, whose token ids must be of the tokenizer with this fingerprint if one is given.
    #[expect(unsafe_code, reason = "mapping")]
    pub(crate) fn of_file(file: &File, fingerprint: Option<u64>) -> Result<Self, FileProblem> {
        // SAFETY: draft files are never changed in place, only replaced by others: what is mapped stays as it is. Should
        // another program write to one all the same, the numbers read change, and none of them is trusted.
        let map = unsafe { Mmap::map(file) }.map_err(FileProblem::Io)?;
        let Some(header) = map.get(..HEADER_BYTES) else {
            return Err(if map.starts_with(MAGIC) {
                FileProblem::Truncated { expected: HEADER_BYTES as u64, found: map.len() as u64 }
            } else {
                FileProblem::NotADraftFile
            });
        };
        if !header.starts_with(MAGIC) {
            return Err(FileProblem::NotADraftFile);
        }
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(FileProblem::Version { found: version, supported: VERSION });
        }
        let mut zeroed = header.to_vec();
        zeroed[CHECKSUM_AT..][..4].fill(0);
        if crc32fast::hash(&zeroed) != u32_at(header, CHECKSUM_AT) {
            return Err(FileProblem::Checksum("header"));
        }
        let id = ShardId { fingerprint: u64_at(header, 16), generation: u64_at(header, 24) };
        if let Some(expected) = fingerprint.filter(|&fingerprint| fingerprint != id.fingerprint) {
            return Err(FileProblem::Fingerprint { found: id.fingerprint, expected });
        }
        let len = u32_at(header, 32);
        let mut sections = [const { (0..0, 0) }; SECTIONS];
        for (index, (range, checksum)) in sections.iter_mut().enumerate() {
            let at = 40 + 24 * index;
            let (offset, bytes) = (u64_at(header, at), u64_at(header, at + 8));
            let end = offset.saturating_add(bytes);
            if end > map.len() as u64 {
                return Err(FileProblem::Truncated { expected: end, found: map.len() as u64 });
            }
            (*range, *checksum) = (offset as usize..end as usize, u32_at(header, at + 16));
        }
        let bytes = |index: usize| sections[index].0.len();
        let is_table =
            |bytes: usize| bytes == 0 || (bytes.is_multiple_of(8) && (bytes / 8).is_power_of_two());
        if len == u32::MAX
            || bytes(TOKENS) != 4 * len as usize
            || bytes(LINKS) != 4 * ORDERS.len() * len as usize
            || !(TABLES..EXTRAS).all(|index| is_table(bytes(index)))
        {
            return Err(FileProblem::Corrupt("the sizes of its sections do not fit the number of tokens"));
        }
        Ok(Self { map, id, len, sections })
    }

    /// What the header says of the file.
    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// Tokens, breaks included.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Its texts, one after another.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Vec<TokenId>> + '_ {
        let tokens = self.section(TOKENS).as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
        let mut tokens = tokens.peekable();
        std::iter::from_fn(move || {
            while tokens.next_if_eq(&BREAK).is_some() {}
            tokens.peek()?;
            Some(std::iter::from_fn(|| tokens.next_if(|&token| token != BREAK)).collect())
        })
    }

    /// A section that only the caller understands, as it was written.
    pub(crate) fn extra(&self, index: usize) -> Result<&[u8], FileProblem> {
        self.check_section(EXTRAS + index)?;
        Ok(self.section(EXTRAS + index))
    }

    /// Reads the whole file and compares it with its checksums.
    pub(crate) fn check(&self) -> Result<(), FileProblem> {
        (0..SECTIONS).try_for_each(|index| self.check_section(index))
    }

    fn check_section(&self, index: usize) -> Result<(), FileProblem> {
        let is_whole = crc32fast::hash(self.section(index)) == self.sections[index].1;
        is_whole.then_some(()).ok_or(FileProblem::Checksum(NAMES[index]))
    }

    fn section(&self, index: usize) -> &[u8] {
        &self.map[self.sections[index].0.clone()]
    }
}

impl History for Shard {
    fn token(&self, index: u32) -> TokenId {
        if index < self.len { u32_at(self.section(TOKENS), 4 * index as usize) } else { BREAK }
    }

    fn last(&self, order: usize, hash: u64) -> Option<u32> {
        let table = self.section(TABLES + order);
        if table.is_empty() {
            return None;
        }
        let (_, slot) = slots::probe(table.len() / 8, slots::tag(hash), |index| u64_at(table, 8 * index));
        (slot != FREE).then_some(slot as u32).filter(|&end| end < self.len)
    }

    fn before(&self, order: usize, end: u32) -> Option<u32> {
        if end >= self.len {
            return None;
        }
        let before = u32_at(self.section(LINKS), 4 * (ORDERS.len() * end as usize + order));
        (before != NONE && before < end).then_some(before)
    }
}

/// The number at `at`, which is in range.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALL, log_of};
    use super::*;

    fn file_of(log: &Log, extras: [&[u8]; 2]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        write(log, ShardId { fingerprint: 7, generation: 3 }, extras, &mut file).unwrap();
        file
    }

    fn bytes_of(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        bytes
    }

    fn open(bytes: &[u8]) -> Result<Shard, FileProblem> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Shard::of_file(&file, Some(7))
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let texts = [vec![1, 2, 3, 1, 2], vec![9], (0..1000).collect()];
        let shard = Shard::of_file(&file_of(&log_of(&texts), [b"abc", b"de"]), Some(7)).unwrap();
        assert_eq!(shard.id(), ShardId { fingerprint: 7, generation: 3 });
        assert_eq!(shard.texts().collect::<Vec<_>>(), texts);
        assert_eq!((shard.extra(0).unwrap(), shard.extra(1).unwrap()), (&b"abc"[..], &b"de"[..]));
        shard.check().unwrap();
        let empty = Shard::of_file(&file_of(&Log::default(), [b"", b""]), None).unwrap();
        assert_eq!((empty.len(), empty.texts().count()), (0, 0));
    }

    #[test]
    fn any_changed_byte_is_found_by_a_check_and_breaks_nothing() {
        let bytes = bytes_of(&file_of(&log_of(&[[1, 2, 3, 1, 2, 4, 1, 2, 3]]), [b"abc", b"de"]));
        for position in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[position] ^= change;
                let Ok(shard) = open(&damaged) else { continue };
                assert!(shard.check().is_err(), "byte {position} xor {change:#x}");
                for context in [&[1, 2][..], &[3], &[4, 1, 2, 3]] {
                    shard.find(context, ALL, 0, &mut Vec::new());
                }
            }
        }
    }

    #[test]
    fn what_is_no_file_of_ours_is_told_apart() {
        let bytes = bytes_of(&file_of(&log_of(&[[1, 2, 3]]), [b"", b"x"]));
        for length in 0..bytes.len() {
            let problem = open(&bytes[..length]).err().unwrap();
            let is_right = match problem {
                FileProblem::Io(_) => length == 0, // nothing can be mapped
                FileProblem::NotADraftFile => length < 8,
                FileProblem::Truncated { .. } => length >= 8,
                _ => false,
            };
            assert!(is_right, "length {length}: {problem:?}");
        }
        assert!(matches!(open(&[b'G'; 500]), Err(FileProblem::NotADraftFile)));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert!(matches!(open(&newer), Err(FileProblem::Version { found: 2, supported: 1 })));
        let file = file_of(&Log::default(), [b"", b""]);
        let problem = Shard::of_file(&file, Some(8)).err();
        assert!(matches!(problem, Some(FileProblem::Fingerprint { found: 7, expected: 8 })), "{problem:?}");
    }
}
