//! A file of drafts as a whole: texts to draft from that several processes and namespaces can share.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::error::FileProblem;
use crate::history::{Header, Log, LogWriter, Shard, ShardId, is_question, write_shard};
use crate::journal;
use crate::runners_up::RunnersUp;
use crate::trust::Trust;
use crate::{TokenId, TrieError};

/// Contexts whose runners-up a corpus keeps while it is made.
const PLACES: usize = 1 << 16;

/// Tokens that are added at a time, between looks at how much memory they take.
const PIECE: usize = 1 << 10;

/// What the header of a file of drafts tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorpusSummary {
    /// Tokens of its texts, and one between each two.
    pub tokens: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A file of drafts, open for reading. What it holds is taken when it is opened: a small file is read, a larger one copied into
/// the temporary directory (`TMPDIR`) and mapped there, so that whatever becomes of the file, drafts stay as they are and no
/// page of it is ever missing. Clones share the copy.
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

    /// Adds all that a file and its journal know; the trust learned there if none is known yet.
    ///
    /// # Errors
    /// If the file is damaged, or its journal cannot be read.
    pub fn add_corpus(&mut self, corpus: &Corpus) -> Result<(), TrieError> {
        corpus.check()?;
        let journaled = journal::answers(&corpus.path, corpus.id())?;
        corpus.shard.texts().chain(journaled).for_each(|text| self.add(&text));
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
        let generation = id_at(path).map_or(0, |replaced| replaced.generation) + 1;
        let (corpus, is_on_disk) = self.write_generation(path, ShardId { fingerprint, generation })?;
        is_on_disk.map(|()| corpus)
    }

    /// As [`write`](Self::write), as the file with this id. Where the file has taken its name and its directory cannot be
    /// written to the disk, it is there, and the second value tells what happened.
    pub(crate) fn write_generation(
        self,
        path: &Path,
        id: ShardId,
    ) -> Result<(Corpus, Result<(), TrieError>), TrieError> {
        let trust = self.trust.as_ref().map(Trust::to_bytes).unwrap_or_default();
        let extras = [&trust[..], &self.runners_up.to_bytes()];
        let write = || -> Result<_, FileProblem> {
            let (mut temporary, place) = beside(path)?;
            write_shard(&self.log, id, extras, temporary.as_file_mut())?;
            // Before it takes its name: who cannot use the new file keeps the old one.
            let shard = Shard::read(temporary.as_file_mut(), Some(id.fingerprint))?;
            Ok((shard, take_name(temporary, &place)?))
        };
        let (shard, is_on_disk) = write().map_err(|problem| problem.of(path))?;
        let corpus = Corpus { path: path.to_owned(), shard: Arc::new(shard) };
        Ok((corpus, is_on_disk.map_err(|error| FileProblem::Io(error).of(path))))
    }
}

/// Merges files of drafts, each with what is in its journal, into one at `out`, in their order: of equal drafts, later ones count
/// as more recent. `out` may be one of the files, if no other program has it open.
///
/// # Errors
/// If there are no files, one cannot be read, is damaged or of another tokenizer than the first, or `out` cannot be written.
pub fn merge_corpora<P: AsRef<Path>>(files: &[P], out: &Path) -> Result<Corpus, TrieError> {
    let (mut builder, mut fingerprint) = (CorpusBuilder::default(), None);
    for file in files {
        let corpus = Corpus::open(file.as_ref(), fingerprint)?;
        fingerprint = Some(corpus.fingerprint());
        builder.add_corpus(&corpus)?;
    }
    builder.write(out, fingerprint.ok_or(TrieError::NothingToMerge)?)
}

impl Corpus {
    /// Opens the file at `path`. Its token ids must be of the tokenizer with this fingerprint, if one is given.
    ///
    /// # Errors
    /// If it cannot be read, is no file of drafts, is truncated, or is of another tokenizer or format.
    pub fn open(path: &Path, fingerprint: Option<u64>) -> Result<Self, TrieError> {
        let shard = File::open(path)
            .map_err(FileProblem::Io)
            .and_then(|mut file| Shard::read(&mut file, fingerprint))
            .map_err(|problem| problem.of(path))?;
        Ok(Self { path: path.to_owned(), shard: Arc::new(shard) })
    }

    /// What there is to say of the file at `path` without opening it: reads its header alone, in the same time however large the
    /// file is.
    ///
    /// # Errors
    /// As [`open`](Self::open). Damage behind the header is not found.
    pub fn inspect(path: &Path, fingerprint: Option<u64>) -> Result<CorpusSummary, TrieError> {
        let read = |mut file: File| {
            let (header, found) = (Header::read(&mut file, fingerprint)?, file.metadata()?.len());
            if found < header.file_bytes() {
                return Err(FileProblem::Truncated { expected: header.file_bytes(), found });
            }
            Ok(CorpusSummary { tokens: u64::from(header.len()), bytes: found })
        };
        File::open(path).map_err(FileProblem::Io).and_then(read).map_err(|problem| problem.of(path))
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
        self.shard.texts().map(without_question)
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
        let answers = journal::answers(&self.path, self.shard.id())?;
        Ok(answers.into_iter().map(without_question).collect())
    }

    pub(crate) fn id(&self) -> ShardId {
        self.shard.id()
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

/// A text without the token that stands for the question it answers.
fn without_question(mut text: Vec<TokenId>) -> Vec<TokenId> {
    text.retain(|&token| !is_question(token));
    text
}

/// What the header of the file at `path` says; an error if there is none that can be used.
pub(crate) fn id_at(path: &Path) -> Result<ShardId, TrieError> {
    let header = File::open(path).map_err(FileProblem::Io).and_then(|mut file| Header::read(&mut file, None));
    header.map(|header| header.id).map_err(|problem| problem.of(path))
}

/// A temporary file beside the one at `path`, and where that really is: a link stays a link.
fn beside(path: &Path) -> io::Result<(NamedTempFile, PathBuf)> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = tempfile::Builder::new().prefix(".drafts-").tempfile_in(directory_of(&path))?;
    Ok((temporary, path))
}

/// Lets a file take its name in one step. Once it has, what it returns tells whether the name is on the disk.
fn take_name(temporary: NamedTempFile, path: &Path) -> io::Result<io::Result<()>> {
    if let Ok(old) = fs::metadata(path) {
        temporary.as_file().set_permissions(old.permissions())?;
    }
    // The content reaches the disk before the name does, power cut or not.
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(if cfg!(unix) {
        File::open(directory_of(path)).and_then(|directory| directory.sync_all())
    } else {
        Ok(())
    })
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
