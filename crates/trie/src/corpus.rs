//! A file of drafts as a whole: texts to draft from that several processes and namespaces can share.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::FileProblem;
use crate::history::{Log, LogWriter, Shard, ShardId, write_shard};
use crate::journal;
use crate::runners_up::RunnersUp;
use crate::trust::Trust;
use crate::{TokenId, TrieError};

/// Contexts whose runners-up a corpus keeps while it is made.
const PLACES: usize = 1 << 16;

/// Tokens that are added at a time, between looks at how much memory they take.
const PIECE: usize = 1 << 10;

/// A file of drafts, open for reading: mapped into memory, which takes milliseconds however large it is. Its pages are shared
/// with all that have it open.
#[derive(Clone)]
pub struct Corpus {
    path: PathBuf,
    shard: Arc<Shard>,
}

/// Texts to be written as a file of drafts.
pub struct CorpusBuilder {
    pub(crate) log: Log,
    pub(crate) writer: LogWriter,
    pub(crate) runners_up: RunnersUp,
    pub(crate) trust: Option<Trust>,
}

impl Default for CorpusBuilder {
    fn default() -> Self {
        Self {
            log: Log::default(),
            writer: LogWriter::default(),
            runners_up: RunnersUp::new(PLACES),
            trust: None,
        }
    }
}

impl CorpusBuilder {
    /// Adds a text.
    pub fn add(&mut self, tokens: &[TokenId]) {
        self.writer.begin_text(&self.log);
        self.writer.extend(&self.log, tokens);
    }

    /// Adds a text if texts and index take at most `max_bytes` then, in memory and, about, in the file; whether they do. If they
    /// would not, a beginning of the text may have been added.
    pub fn add_within(&mut self, tokens: &[TokenId], max_bytes: usize) -> bool {
        self.writer.begin_text(&self.log);
        tokens.chunks(PIECE).all(|piece| {
            let is_room = self.writer.bytes_after(piece.len()) <= max_bytes;
            if is_room {
                self.writer.extend(&self.log, piece);
            }
            is_room
        })
    }

    /// Adds all that a file knows; the trust learned there if none is known yet.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn add_corpus(&mut self, corpus: &Corpus) -> Result<(), TrieError> {
        corpus.check()?;
        corpus.texts().for_each(|text| self.add(&text));
        let [trust, runners_up] = corpus.extras()?;
        self.runners_up.join_bytes(runners_up);
        self.trust = self.trust.take().or_else(|| Trust::from_bytes(trust));
        Ok(())
    }

    /// Tokens added.
    pub fn tokens(&self) -> u64 {
        u64::from(self.log.len())
    }

    /// Writes the file at `path` in one step: whatever ends the program, `path` is as it was or whole and new.
    ///
    /// `fingerprint` is that of the tokenizer. A journal of a file that was there continues the new one no more.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(self, path: &Path, fingerprint: u64) -> Result<Corpus, TrieError> {
        let replaced = Corpus::open(path, None).map_or(0, |corpus| corpus.shard.id().generation);
        self.write_generation(path, ShardId { fingerprint, generation: replaced + 1 })
    }

    pub(crate) fn write_generation(self, path: &Path, id: ShardId) -> Result<Corpus, TrieError> {
        let trust = self.trust.as_ref().map(Trust::to_bytes).unwrap_or_default();
        let extras = [&trust[..], &self.runners_up.to_bytes()];
        replace(path, |file| write_shard(&self.log, id, extras, file))
            .map_err(|error| FileProblem::Io(error).of(path))?;
        Corpus::open(path, Some(id.fingerprint))
    }
}

impl Corpus {
    /// Opens the file at `path`. Its token ids must be of the tokenizer with this fingerprint, if one is given.
    ///
    /// # Errors
    /// If it cannot be read, is no file of drafts, is truncated, or is of another tokenizer or format.
    pub fn open(path: &Path, fingerprint: Option<u64>) -> Result<Self, TrieError> {
        let shard = File::open(path)
            .map_err(FileProblem::Io)
            .and_then(|file| Shard::of_file(&file, fingerprint))
            .map_err(|problem| problem.of(path))?;
        Ok(Self { path: path.to_owned(), shard: Arc::new(shard) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the tokenizer.
    pub fn fingerprint(&self) -> u64 {
        self.shard.id().fingerprint
    }

    /// Tokens of its texts, and one between each two.
    pub fn tokens(&self) -> u64 {
        u64::from(self.shard.len())
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.shard.bytes() as u64
    }

    /// Its texts, the oldest first.
    pub fn texts(&self) -> impl Iterator<Item = Vec<TokenId>> + '_ {
        self.shard.texts()
    }

    /// Reads all of it and compares it with its checksums.
    ///
    /// # Errors
    /// If something of it was changed.
    pub fn check(&self) -> Result<(), TrieError> {
        self.shard.check().map_err(|problem| problem.of(&self.path))
    }

    /// The answers in its journal that are not in the file yet.
    ///
    /// # Errors
    /// If the journal cannot be read or is no journal.
    pub fn journaled(&self) -> Result<Vec<Vec<TokenId>>, TrieError> {
        journal::answers(&self.path, self.shard.id())
    }

    pub(crate) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Trust and runners-up, as bytes.
    pub(crate) fn extras(&self) -> Result<[&[u8]; 2], TrieError> {
        let extra = |index| self.shard.extra(index).map_err(|problem| problem.of(&self.path));
        Ok([extra(0)?, extra(1)?])
    }
}

/// Writes a temporary file beside the one at `path` and lets it take its name in one step.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new().prefix(".drafts-").tempfile_in(directory)?;
    write(temporary.as_file_mut())?;
    if let Ok(old) = fs::metadata(&path) {
        temporary.as_file().set_permissions(old.permissions())?;
    }
    // The content reaches the disk before the name does, power cut or not.
    temporary.as_file().sync_all()?;
    temporary.persist(&path)?;
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
