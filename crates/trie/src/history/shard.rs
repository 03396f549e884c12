//! A history in a file: written once, then read by any number of processes. [`Header`] describes the format.
//!
//! Opening reads the header and takes the rest as it is, however large. So nothing of the large sections is believed: an end is
//! used if it is in range and links go up only, which a damaged file can make wrong but not endless. [`Shard::check`] reads
//! all.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::ops::Range;

use super::header::{
    EXTRAS, HEADER_BYTES, Header, LINKS, SECTIONS, Section, ShardId, TABLES, TOKENS, u32_at, u64_at,
};
use super::log::Log;
use super::lookup::{BREAK, History, NONE, ORDERS};
use super::own_bytes::OwnBytes;
use super::slots::{self, FREE};
use crate::TokenId;
use crate::error::FileProblem;

/// Names of the sections, for errors.
const NAMES: [&str; SECTIONS] =
    ["tokens", "links", "table 1", "table 2", "table 4", "table 8", "trust", "runners-up"];

/// A file that is read.
pub(crate) struct Shard {
    bytes: OwnBytes,
    header: Header,
    ranges: [Range<usize>; SECTIONS],
}

/// Counts and sums what is written.
struct SectionWriter<W: Write> {
    out: W,
    bytes: u64,
    checksum: crc32fast::Hasher,
}

impl<W: Write> Write for SectionWriter<W> {
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
    let mut header = Header { id, len, sections: Default::default() };
    let mut offset = HEADER_BYTES as u64;
    file.seek(SeekFrom::Start(offset))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for (index, written) in header.sections.iter_mut().enumerate() {
        let mut section = SectionWriter { out: &mut out, bytes: 0, checksum: crc32fast::Hasher::new() };
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
        let SectionWriter { bytes, checksum, .. } = section;
        *written = Section { offset, bytes, checksum: checksum.finalize() };
        offset += bytes;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header.to_bytes())
}

impl Shard {
    /// Takes the content of `file`, whose token ids must be of the tokenizer with this fingerprint if one is given. Whatever
    /// becomes of the file from then on, the content stays.
    pub(crate) fn read(file: &mut File, fingerprint: Option<u64>) -> Result<Self, FileProblem> {
        let header = Header::read(file, fingerprint)?;
        file.seek(SeekFrom::Start(0))?;
        let (bytes, expected) = (OwnBytes::of(file, header.file_bytes())?, header.file_bytes());
        if (bytes.len() as u64) < expected {
            return Err(FileProblem::Truncated { expected, found: bytes.len() as u64 });
        }
        let ranges = std::array::from_fn(|index| header.range(index));
        Ok(Self { bytes, header, ranges })
    }

    /// What the header says of the file.
    pub(crate) fn id(&self) -> ShardId {
        self.header.id
    }

    /// Tokens, breaks included.
    pub(crate) fn len(&self) -> u32 {
        self.header.len
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
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
        let is_whole = crc32fast::hash(self.section(index)) == self.header.sections[index].checksum;
        is_whole.then_some(()).ok_or(FileProblem::Checksum(NAMES[index]))
    }

    fn section(&self, index: usize) -> &[u8] {
        &self.bytes[self.ranges[index].clone()]
    }
}

impl History for Shard {
    fn token(&self, index: u32) -> TokenId {
        if index < self.len() { u32_at(self.section(TOKENS), 4 * index as usize) } else { BREAK }
    }

    fn last(&self, order: usize, hash: u64) -> Option<u32> {
        let table = self.section(TABLES + order);
        if table.is_empty() {
            return None;
        }
        let (_, slot) = slots::probe(table.len() / 8, slots::tag(hash), |index| u64_at(table, 8 * index));
        (slot != FREE).then_some(slot as u32).filter(|&end| end < self.len())
    }

    fn before(&self, order: usize, end: u32) -> Option<u32> {
        if end >= self.len() {
            return None;
        }
        let before = u32_at(self.section(LINKS), 4 * (ORDERS.len() * end as usize + order));
        (before != NONE && before < end).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ALL, log_of};

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
        Shard::read(&mut file, Some(7))
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let texts = [vec![1, 2, 3, 1, 2], vec![9], (0..1000).collect()];
        let shard = Shard::read(&mut file_of(&log_of(&texts), [b"abc", b"de"]), Some(7)).unwrap();
        assert_eq!(shard.id(), ShardId { fingerprint: 7, generation: 3 });
        assert_eq!(shard.texts().collect::<Vec<_>>(), texts);
        assert_eq!((shard.extra(0).unwrap(), shard.extra(1).unwrap()), (&b"abc"[..], &b"de"[..]));
        shard.check().unwrap();
        let empty = Shard::read(&mut file_of(&Log::default(), [b"", b""]), None).unwrap();
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
        let mut file = file_of(&Log::default(), [b"", b""]);
        let problem = Shard::read(&mut file, Some(8)).err();
        assert!(matches!(problem, Some(FileProblem::Fingerprint { found: 7, expected: 8 })), "{problem:?}");
    }
}
