//! The folder of a namespace's corpora: files that its tenant has sent.
//!
//! A corpus is written beside its place and checked before it takes it, in one step. A file that cannot be used (a damaged one, or
//! that of another tokenizer) is passed over and told of; it can be removed as any other.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lookahead_trie::{Corpus, CorpusBuilder, Namespace};
use tempfile::TempDir;

use super::error::{DraftStoreError, io_error};

/// How files of namespaces and of corpora end.
pub(super) const EXTENSION: &str = "drafts";

/// How the folders begin that corpora are written in.
const UNFINISHED: &str = ".corpus-";

/// A corpus that is not finished after so long never will be: its process was killed.
const STALE: Duration = Duration::from_hours(1);

/// A corpus of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct CorpusInfo {
    pub(crate) name: String,
    pub(crate) tokens: u64,
    pub(crate) bytes: u64,
    /// Why it is not drafted from.
    pub(crate) problem: Option<String>,
}

/// The folder, which need not be there.
pub(super) struct CorpusFolder(PathBuf);

/// A corpus in a folder of its own, which goes with it.
pub(super) struct WrittenCorpus(TempDir);

struct CorpusFile {
    name: String,
    path: PathBuf,
    bytes: u64,
}

/// What corpora take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) corpora: usize,
    pub(super) bytes: u64,
}

impl CorpusFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Lets `namespace` draft from all corpora that can be used. All of them, with what is wrong with the others.
    pub(super) fn open_all(
        &self,
        namespace: &Namespace,
        fingerprint: u64,
    ) -> Result<Vec<CorpusInfo>, DraftStoreError> {
        let open = |CorpusFile { name, path, bytes }: CorpusFile| {
            let opened = Corpus::open(&path, Some(fingerprint)).and_then(|corpus| {
                let tokens = corpus.tokens();
                namespace.add_corpus(&name, corpus).map(|()| tokens)
            });
            match opened {
                Ok(tokens) => CorpusInfo { name, tokens, bytes, problem: None },
                Err(error) => CorpusInfo { name, tokens: 0, bytes, problem: Some(error.to_string()) },
            }
        };
        Ok(self.files()?.into_iter().map(open).collect())
    }

    /// All corpora by their headers, with what is wrong with those that cannot be used. None is opened.
    pub(super) fn list(&self, fingerprint: u64) -> Result<Vec<CorpusInfo>, DraftStoreError> {
        let inspect = |CorpusFile { name, path, bytes }: CorpusFile| {
            let (tokens, problem) = match Corpus::inspect(&path, Some(fingerprint)) {
                Ok(summary) => (summary.tokens, None),
                Err(error) => (0, Some(error.to_string())),
            };
            CorpusInfo { name, tokens, bytes, problem }
        };
        Ok(self.files()?.into_iter().map(inspect).collect())
    }

    /// How many corpora there are, and what they and unfinished ones take.
    pub(super) fn usage(&self) -> Result<Usage, DraftStoreError> {
        let unfinished =
            self.unfinished()?.into_iter().flat_map(|(path, _)| fs::read_dir(path).into_iter().flatten());
        let unfinished = unfinished.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len());
        let files = self.files()?;
        let bytes = files.iter().map(|file| file.bytes).chain(unfinished).sum();
        Ok(Usage { corpora: files.len(), bytes })
    }

    /// Bytes of the corpus of this name, if there is one.
    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        fs::metadata(self.file(name)).ok().map(|file| file.len())
    }

    /// Writes and checks a corpus that has no place yet. Whatever goes wrong, nothing of it stays.
    pub(super) fn write(
        &self,
        texts: CorpusBuilder,
        fingerprint: u64,
    ) -> Result<WrittenCorpus, DraftStoreError> {
        fs::create_dir_all(&self.0).map_err(io_error(&self.0))?;
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.0);
        let written = unfinished.map_err(io_error(&self.0)).and_then(|folder| {
            texts.write(&folder.path().join(EXTENSION), fingerprint)?.check()?;
            Ok(WrittenCorpus(folder))
        });
        if written.is_err() {
            self.remove_if_empty();
        }
        written
    }

    /// Gives a corpus its place, that of the one which has this name.
    pub(super) fn place(
        &self,
        WrittenCorpus(folder): WrittenCorpus,
        name: &str,
        fingerprint: u64,
    ) -> Result<Corpus, DraftStoreError> {
        let path = self.file(name);
        fs::rename(folder.path().join(EXTENSION), &path).map_err(io_error(&path))?;
        if cfg!(unix) {
            fs::File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(io_error(&self.0))?;
        }
        Ok(Corpus::open(&path, Some(fingerprint))?)
    }

    /// Removes the corpus of this name, whatever is in its file; whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, DraftStoreError> {
        // Only what is listed: a name may come from anywhere.
        let Some(file) = self.files()?.into_iter().find(|file| file.name == name) else { return Ok(false) };
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&file.path)(error)),
            _ => {
                self.remove_if_empty();
                Ok(true)
            }
        }
    }

    /// Removes what a process that was killed has left unfinished.
    pub(super) fn sweep(&self) {
        for (path, modified) in self.unfinished().unwrap_or_default() {
            if modified.elapsed().is_ok_and(|age| age > STALE)
                && let Err(error) = fs::remove_dir_all(&path)
            {
                tracing::warn!("cannot remove a corpus that was never finished: {}: {error}", path.display());
            }
        }
    }

    fn remove_if_empty(&self) {
        let _ = fs::remove_dir(&self.0); // it is not removed if something is in it
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.{EXTENSION}"))
    }

    /// The files of corpora, by name.
    fn files(&self) -> Result<Vec<CorpusFile>, DraftStoreError> {
        let mut files: Vec<_> = self
            .entries()?
            .into_iter()
            .filter_map(|(path, metadata)| {
                path.extension().filter(|extension| *extension == EXTENSION)?;
                let name = path.file_stem()?.to_string_lossy().into_owned();
                Some(CorpusFile { name, path, bytes: metadata.len() })
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn unfinished(&self) -> Result<Vec<(PathBuf, SystemTime)>, DraftStoreError> {
        let entries = self.entries()?.into_iter().filter(|(path, _)| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
        });
        Ok(entries.filter_map(|(path, metadata)| Some((path, metadata.modified().ok()?))).collect())
    }

    fn entries(&self) -> Result<Vec<(PathBuf, fs::Metadata)>, DraftStoreError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(io_error(&self.0)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error(&self.0))?;
            match entry.metadata() {
                Ok(metadata) => found.push((entry.path(), metadata)),
                // Another thread has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error(&entry.path())(error)),
            }
        }
        Ok(found)
    }
}
