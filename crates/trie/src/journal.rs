//! The journal beside a file of drafts: what was learned since that was written, one record after another.
//!
//! All numbers are little-endian. It begins with "LKDRJRNL" (8 bytes), the format version (4), the CRC-32 of the next 16 bytes
//! (4), the fingerprint of the tokenizer (8) and the generation of the file that it continues (8). A record is its length (4),
//! the CRC-32 of its content (4), and its content: a byte for its kind, then
//!
//! - 1, an answer: the number of its tokens (4), its tokens (4 each), runners-up;
//! - 2, trust: that of the namespace, in place of any before.
//!
//! A record that is not whole ends the journal: a program or a machine that stops in the middle of writing loses that record
//! and nothing else. Records of an older generation are in the file already.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::error::FileProblem;
use crate::history::ShardId;
use crate::{TokenId, TrieError};

const MAGIC: &[u8; 8] = b"LKDRJRNL";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

/// What was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An answer, and its runners-up as bytes.
    Answer(Vec<TokenId>, Vec<u8>),
    /// Trust, as bytes.
    Trust(Vec<u8>),
}

/// A journal that this process writes, and no other.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    id: ShardId,
    /// Where the next record goes: behind the last whole one. 0 where not even a header could be written.
    len: u64,
}

/// The journal of the file at `path`.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".journal");
    name.into()
}

/// The whole records of the journal of the file at `path` with this id; none if there is no journal.
pub(crate) fn read(path: &Path, id: ShardId) -> Result<Vec<Record>, TrieError> {
    let path = path_of(path);
    match File::open(&path) {
        Ok(mut file) => Ok(records(&mut file, id).map_err(|problem| problem.of(&path))?.0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileProblem::Io(error).of(&path)),
    }
}

/// As [`read`], the answers alone.
pub(crate) fn answers(path: &Path, id: ShardId) -> Result<Vec<Vec<TokenId>>, TrieError> {
    let answers = read(path, id)?.into_iter().filter_map(|record| match record {
        Record::Answer(tokens, _) => Some(tokens),
        Record::Trust(_) => None,
    });
    Ok(answers.collect())
}

impl Journal {
    /// Opens the journal of the file at `path`, makes it if there is none, and reads what it holds beyond that file, which
    /// has this id. `None` if another process writes it.
    pub(crate) fn open(path: &Path, id: ShardId) -> Result<Option<(Self, Vec<Record>)>, TrieError> {
        let path = path_of(path);
        let of_path = |error: std::io::Error| FileProblem::Io(error).of(&path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600); // answers are private
        let file = options.open(&path).map_err(of_path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(of_path(error)),
        }
        let mut journal = Self { path, file, id, len: 0 };
        let (records, len) = records(&mut journal.file, id).map_err(|problem| problem.of(&journal.path))?;
        journal.len = len;
        if len == 0 {
            journal.restart(id)?;
        } else {
            journal.cut()?;
        }
        Ok(Some((journal, records)))
    }

    /// Bytes of its records.
    pub(crate) fn bytes(&self) -> u64 {
        self.len.saturating_sub(HEADER_BYTES as u64)
    }

    /// Appends a record. What could not be written whole is taken back.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), TrieError> {
        let content = record.to_bytes();
        let mut bytes = Vec::with_capacity(8 + content.len());
        bytes.extend((content.len() as u32).to_le_bytes());
        bytes.extend(crc32fast::hash(&content).to_le_bytes());
        bytes.extend(content);
        if self.len == 0 {
            self.restart(self.id)?;
        }
        if let Err(error) = self.file.write_all(&bytes) {
            // The next record must not come behind half a one; should this fail too, reading ends here.
            let _ = self.cut();
            return Err(self.error(error));
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Waits until all records are on the disk.
    pub(crate) fn sync(&self) -> Result<(), TrieError> {
        self.file.sync_data().map_err(|error| self.error(error))
    }

    /// Forgets all records: they are in the file with this id.
    pub(crate) fn restart(&mut self, id: ShardId) -> Result<(), TrieError> {
        let of_id = [id.fingerprint.to_le_bytes(), id.generation.to_le_bytes()].concat();
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(crc32fast::hash(&of_id).to_le_bytes());
        header.extend(of_id);
        (self.id, self.len) = (id, 0);
        self.cut()?;
        self.file.write_all(&header).map_err(|error| self.error(error))?;
        self.len = HEADER_BYTES as u64;
        self.sync()
    }

    /// Drops what is behind the last whole record.
    fn cut(&mut self) -> Result<(), TrieError> {
        let cut = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
        cut.map(|_| ()).map_err(|error| self.error(error))
    }

    fn error(&self, error: std::io::Error) -> TrieError {
        FileProblem::Io(error).of(&self.path)
    }
}

impl Drop for Journal {
    /// Unlocks the journal even where closing the file would not: a process that this one is about to start holds copies of
    /// all open files for a moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl Record {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Answer(tokens, runners_up) => {
                let mut bytes = vec![1];
                bytes.extend((tokens.len() as u32).to_le_bytes());
                bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
                bytes.extend(runners_up);
                bytes
            }
            Self::Trust(trust) => [&[2], &trust[..]].concat(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (1, bytes) => {
                let (len, bytes) = bytes.split_first_chunk::<4>()?;
                let (tokens, runners_up) =
                    bytes.split_at_checked((u32::from_le_bytes(*len) as usize).checked_mul(4)?)?;
                let tokens = tokens.as_chunks::<4>().0.iter().map(|&token| u32::from_le_bytes(token));
                Some(Self::Answer(tokens.collect(), runners_up.to_vec()))
            }
            (2, trust) => Some(Self::Trust(trust.to_vec())),
            _ => None,
        }
    }
}

/// The whole records behind the file with this id, and where they end; nothing and 0 if the journal must start anew.
fn records(file: &mut File, id: ShardId) -> Result<(Vec<Record>, u64), FileProblem> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some((header, mut left)) = bytes.split_at_checked(HEADER_BYTES) else {
        // Less than a header was written, or it is something else.
        let is_ours = MAGIC.starts_with(&bytes) || bytes.starts_with(MAGIC);
        return if is_ours { Ok((Vec::new(), 0)) } else { Err(FileProblem::NotAJournal) };
    };
    if !header.starts_with(MAGIC) {
        return Err(FileProblem::NotAJournal);
    }
    let number = |at: usize| header[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
    if number(8) != VERSION {
        return Err(FileProblem::Version { found: number(8), supported: VERSION });
    }
    if number(12) != crc32fast::hash(&header[16..]) {
        return Err(FileProblem::Checksum("header"));
    }
    let found = u64::from(number(16)) | u64::from(number(20)) << 32;
    if found != id.fingerprint {
        return Err(FileProblem::Fingerprint { found, expected: id.fingerprint });
    }
    if (u64::from(number(24)) | u64::from(number(28)) << 32) < id.generation {
        return Ok((Vec::new(), 0));
    }
    let mut records = Vec::new();
    while let Some(record) = next_record(&mut left) {
        records.push(record);
    }
    Ok((records, (bytes.len() - left.len()) as u64))
}

/// Takes a record from the front of `bytes`, if there is a whole one.
fn next_record(bytes: &mut &[u8]) -> Option<Record> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let record = Record::from_bytes(content)?;
    *bytes = rest;
    Some(record)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: ShardId = ShardId { fingerprint: 7, generation: 3 };

    fn some_records() -> [Record; 3] {
        [
            Record::Answer(vec![1, 2, 3], vec![9; 40]),
            Record::Trust(vec![4, 5]),
            Record::Answer(vec![], vec![]),
        ]
    }

    fn open(path: &Path, id: ShardId) -> (Journal, Vec<Record>) {
        Journal::open(path, id).unwrap().unwrap()
    }

    #[test]
    fn a_journal_that_is_dropped_is_free_though_a_process_that_starts_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        let (journal, _) = open(&path, ID);
        let held = journal.file.try_clone().unwrap();
        assert!(Journal::open(&path, ID).unwrap().is_none(), "it is in use");
        drop(journal);
        assert!(Journal::open(&path, ID).unwrap().is_some());
        drop(held);
    }

    #[test]
    fn whole_records_come_back_whatever_the_journal_is_cut_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        let mut ends = Vec::new();
        let (mut journal, none) = open(&path, ID);
        assert!(none.is_empty());
        for record in some_records() {
            journal.append(&record).unwrap();
            ends.push(journal.len as usize);
        }
        drop(journal);
        let bytes = fs::read(path_of(&path)).unwrap();
        for len in 0..=bytes.len() {
            fs::write(path_of(&path), &bytes[..len]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= len).count();
            let (mut journal, records) = open(&path, ID);
            assert_eq!(records, some_records()[..whole], "{len}");
            // What is written next is not lost behind the rest.
            journal.append(&some_records()[1]).unwrap();
            drop(journal);
            assert_eq!(read(&path, ID).unwrap().last(), Some(&some_records()[1]), "{len}");
        }
    }

    #[test]
    fn records_of_an_older_generation_are_in_the_file_already() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        open(&path, ID).0.append(&some_records()[0]).unwrap();
        assert_eq!(open(&path, ID).1.len(), 1);
        assert_eq!(open(&path, ShardId { generation: 2, ..ID }).1.len(), 1, "the file was lost");
        assert!(open(&path, ShardId { generation: 4, ..ID }).1.is_empty());
        assert!(read(&path, ShardId { generation: 4, ..ID }).unwrap().is_empty());
    }

    #[test]
    fn a_journal_that_could_not_be_restarted_is_before_the_next_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        let (mut journal, _) = open(&path, ID);
        journal.append(&some_records()[0]).unwrap();
        let newer = ShardId { generation: 4, ..ID };
        let writable = std::mem::replace(&mut journal.file, File::open(path_of(&path)).unwrap());
        assert!(journal.restart(newer).is_err());
        assert!(journal.append(&some_records()[1]).is_err());
        assert_eq!(journal.bytes(), 0);
        journal.file = writable;
        journal.append(&some_records()[2]).unwrap();
        drop(journal);
        assert_eq!(read(&path, newer).unwrap(), some_records()[2..]);
    }

    #[test]
    fn one_process_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        let first = open(&path, ID);
        assert!(Journal::open(&path, ID).unwrap().is_none());
        drop(first);
        assert!(Journal::open(&path, ID).unwrap().is_some());
    }

    #[test]
    fn what_is_no_journal_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        for content in [&b"precious"[..], &[b'x'; 100]] {
            fs::write(path_of(&path), content).unwrap();
            let error = Journal::open(&path, ID).err().unwrap().to_string();
            assert!(error.contains("d.journal: not a journal"), "{error}");
            assert_eq!(fs::read(path_of(&path)).unwrap(), content);
        }
        fs::remove_file(path_of(&path)).unwrap();
        drop(open(&path, ID));
        let error = Journal::open(&path, ShardId { fingerprint: 8, ..ID }).err().unwrap().to_string();
        assert!(error.contains("another tokenizer"), "{error}");
    }
}
