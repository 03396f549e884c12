//! Where a namespace is kept: a file, and the journal that continues it.

use std::path::{Path, PathBuf};

use crate::corpus::{Corpus, CorpusBuilder, id_at};
use crate::error::FileProblem;
use crate::history::ShardId;
use crate::journal::{self, Journal, Record};
use crate::{TokenId, TrieError};

/// A journal of fewer bytes is not worth rewriting the file that it continues.
const MIN_JOURNAL_BYTES: u64 = 1 << 20;

/// Of the file's bytes, the share that its journal grows to before the file is rewritten.
const JOURNAL_SHARE: u64 = 4;

/// A file and its journal, to which this process writes, and no other.
pub(crate) struct DraftFile {
    path: PathBuf,
    /// Of the file.
    id: ShardId,
    journal: Journal,
}

/// What was found where a namespace is kept.
pub(crate) struct Found {
    /// The file, if there is one yet.
    pub(crate) base: Option<Corpus>,
    /// What its journal holds beyond it.
    pub(crate) records: Vec<Record>,
    /// The right to write; `None` if another process has it.
    pub(crate) file: Option<DraftFile>,
}

impl DraftFile {
    /// Opens the file at `path` and its journal, and makes the journal if there is none.
    pub(crate) fn open(path: &Path, fingerprint: u64) -> Result<Found, TrieError> {
        // By another name the same file has the same journal.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        loop {
            let there = path.try_exists().map_err(|error| FileProblem::Io(error).of(&path))?;
            let base = there.then(|| Corpus::open(&path, Some(fingerprint))).transpose()?;
            let id = base.as_ref().map_or(ShardId { fingerprint, generation: 0 }, Corpus::id);
            let (journal, records) = match Journal::open(&path, id)? {
                Some((journal, records)) => (Some(journal), records),
                None => (None, journal::read(&path, id)?),
            };
            // Who wrote until now may have replaced the file between the looks at it and at its journal.
            if there == path.exists() && (!there || id_at(&path)? == id) {
                let file = journal.map(|journal| Self { path, id, journal });
                return Ok(Found { base, records, file });
            }
        }
    }

    /// Appends a record to the journal.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), TrieError> {
        self.journal.append(record)
    }

    /// Waits until the journal is on the disk.
    pub(crate) fn sync(&self) -> Result<(), TrieError> {
        self.journal.sync()
    }

    /// Whether the journal holds nothing.
    pub(crate) fn is_current(&self) -> bool {
        self.journal.bytes() == 0
    }

    /// Whether the journal has grown so large that the file, of so many bytes, is to be written anew; always if there is no
    /// file yet.
    pub(crate) fn is_outgrown(&self, file_bytes: Option<u64>) -> bool {
        file_bytes.is_none_or(|bytes| self.journal.bytes() >= MIN_JOURNAL_BYTES.max(bytes / JOURNAL_SHARE))
    }

    /// The answers in the journal.
    pub(crate) fn answers(&self) -> Result<Vec<Vec<TokenId>>, TrieError> {
        journal::answers(&self.path, self.id)
    }

    /// Writes the file anew, with all that is in the journal, which begins again. The error beside the new file is of something
    /// that failed when that was in its place already.
    pub(crate) fn replace(
        &mut self,
        content: CorpusBuilder,
    ) -> Result<(Corpus, Result<(), TrieError>), TrieError> {
        let newer = ShardId { generation: self.id.generation + 1, ..self.id };
        let (base, is_on_disk) = content.write_generation(&self.path, newer)?;
        self.id = newer;
        let restarted = self.journal.restart(newer);
        Ok((base, is_on_disk.and(restarted)))
    }
}
