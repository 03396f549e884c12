//! What drafts are made from: a namespace for each tenant and each name that it gives, kept in files if there is a directory.
//!
//! What a finished answer teaches is written by a thread of its own, so that neither a slow disk nor a snapshot makes the
//! engine wait.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use std::sync::Arc;

use lookahead_engine::{CostCurve, Draft, DraftLimits, Drafter, NamespaceDrafter};
use lookahead_model::{Candidate, TokenId};
use lookahead_trie::{Corpus, CorpusBuilder, Namespace, NamespaceStats, Namespaces, TrieError};

use crate::auth::is_name;
use crate::options::DraftOptions;

/// How the files of namespaces and corpora end.
const EXTENSION: &str = "drafts";

/// What stands in front of the names of corpora that the operator gave.
const SHARED: &str = "shared:";

/// Why drafts cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum DraftStoreError {
    /// A name with other characters than names may have.
    #[error("{0:?} is no name: up to 64 letters, digits, `-`, `_` and `.` are")]
    Name(String),
    /// As many namespaces as may be.
    #[error("this server has {0} namespaces, as many as may be")]
    TooMany(usize),
    /// A file of drafts cannot be read or written.
    #[error(transparent)]
    Trie(#[from] TrieError),
    /// Another file or a directory.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// All namespaces.
pub(crate) struct DraftStore {
    options: DraftOptions,
    fingerprint: u64,
    namespaces: Namespaces,
    /// Held while a namespace is opened or changed.
    opening: Mutex<()>,
    learner: Sender<Lesson>,
    /// Corpora that were sent and have no directory to stay in.
    temporary: Option<tempfile::TempDir>,
}

/// A corpus of a namespace.
pub(crate) struct CorpusInfo {
    pub(crate) name: String,
    pub(crate) tokens: u64,
    pub(crate) bytes: u64,
}

enum Lesson {
    /// A request has ended; dropping its drafter is what teaches the namespace.
    End(Box<NamespaceDrafter>),
    /// All lessons before this one have been learned.
    Barrier(SyncSender<()>),
}

impl DraftStore {
    /// A store for tokens of the tokenizer with this `fingerprint`. Namespaces are opened when they are first named.
    pub(crate) fn new(options: DraftOptions, fingerprint: u64) -> Result<Self, DraftStoreError> {
        let temporary = match &options.directory {
            Some(directory) => {
                fs::create_dir_all(directory).map_err(io_error(directory))?;
                None
            }
            None => Some(tempfile::tempdir().map_err(io_error(&std::env::temp_dir()))?),
        };
        let namespaces = Namespaces::new(options.namespace_bytes)?;
        let (learner, lessons) = channel();
        thread::Builder::new()
            .name("drafts".to_owned())
            .spawn(move || learn(&lessons))
            .map_err(io_error(Path::new("a thread")))?;
        Ok(Self { options, fingerprint, namespaces, opening: Mutex::default(), learner, temporary })
    }

    /// The name of a tenant's namespace: its own, or one within it.
    pub(crate) fn name(tenant: &str, namespace: Option<&str>) -> Result<String, DraftStoreError> {
        match namespace {
            None => Ok(tenant.to_owned()),
            Some(name) if is_name(name) => Ok(format!("{tenant}/{name}")),
            Some(name) => Err(DraftStoreError::Name(name.to_owned())),
        }
    }

    /// The namespace of this name, from its file if there is one.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Namespace>, DraftStoreError> {
        let _one_opens = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.namespaces.find(name) {
            return Ok(known);
        }
        if self.namespaces.count() >= self.options.max_namespaces {
            return Err(DraftStoreError::TooMany(self.options.max_namespaces));
        }
        let namespace = match &self.options.directory {
            Some(directory) => {
                let path = directory.join(file_name(name));
                Namespace::open(&path, self.fingerprint, self.options.namespace_bytes)?
            }
            None => Namespace::new(self.options.namespace_bytes)?,
        };
        for corpus in &self.options.corpora {
            namespace.add_corpus(&format!("{SHARED}{}", corpus.path().display()), corpus.clone())?;
        }
        for path in self.corpus_files(name)? {
            let corpus = Corpus::open(&path, Some(self.fingerprint))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            namespace.add_corpus(&stem, corpus)?;
        }
        let namespace = Arc::new(namespace);
        self.namespaces.insert(name, Arc::clone(&namespace));
        Ok(namespace)
    }

    /// A drafter whose lessons are learned elsewhere.
    pub(crate) fn drafter(&self, drafter: NamespaceDrafter) -> Box<dyn Drafter> {
        Box::new(Deferred { drafter: Some(Box::new(drafter)), learner: self.learner.clone() })
    }

    /// Adds a corpus to a namespace, in place of one of the same name, and keeps it where namespaces are kept.
    pub(crate) fn add_corpus(
        &self,
        namespace: &str,
        name: &str,
        texts: CorpusBuilder,
    ) -> Result<CorpusInfo, DraftStoreError> {
        if !is_name(name) {
            return Err(DraftStoreError::Name(name.to_owned()));
        }
        let space = self.get(namespace)?;
        let directory = self.corpus_directory(namespace);
        fs::create_dir_all(&directory).map_err(io_error(&directory))?;
        let corpus = texts.write(&directory.join(format!("{name}.{EXTENSION}")), self.fingerprint)?;
        space.add_corpus(name, corpus.clone())?;
        Ok(CorpusInfo { name: name.to_owned(), tokens: corpus.tokens(), bytes: corpus.bytes() })
    }

    /// The corpora of a namespace that were sent to it.
    pub(crate) fn corpora(&self, namespace: &str) -> Result<Vec<CorpusInfo>, DraftStoreError> {
        let corpora =
            self.get(namespace)?.corpora().into_iter().filter(|(name, _)| !name.starts_with(SHARED));
        Ok(corpora
            .map(|(name, corpus)| CorpusInfo { name, tokens: corpus.tokens(), bytes: corpus.bytes() })
            .collect())
    }

    /// Takes a corpus that was sent away from a namespace; whether there was one.
    pub(crate) fn remove_corpus(&self, namespace: &str, name: &str) -> Result<bool, DraftStoreError> {
        if !is_name(name) {
            return Ok(false);
        }
        let was_there = self.get(namespace)?.remove_corpus(name);
        let path = self.corpus_directory(namespace).join(format!("{name}.{EXTENSION}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error)),
            _ => Ok(was_there),
        }
    }

    /// Learns what has ended and saves every namespace that is kept. What failed, by name.
    pub(crate) fn save(&self) -> Vec<(String, TrieError)> {
        self.wait_for_lessons();
        let open = self.open();
        let failed = open.into_iter().filter_map(|(name, namespace)| Some((name, namespace.save().err()?)));
        failed.collect()
    }

    /// Returns when all requests that have ended until now have taught their namespaces.
    pub(crate) fn wait_for_lessons(&self) {
        let (done, wait) = sync_channel(1);
        if self.learner.send(Lesson::Barrier(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// How full each namespace is.
    pub(crate) fn stats(&self) -> Vec<(String, NamespaceStats)> {
        self.open().into_iter().map(|(name, namespace)| (name, namespace.stats())).collect()
    }

    fn open(&self) -> Vec<(String, Arc<Namespace>)> {
        let names = self.namespaces.names().into_iter();
        names.filter_map(|name| Some((name.clone(), self.namespaces.find(&name)?))).collect()
    }

    fn corpus_directory(&self, namespace: &str) -> PathBuf {
        let kept = self.options.directory.as_deref();
        let root = kept.or(self.temporary.as_ref().map(tempfile::TempDir::path)).unwrap_or(Path::new("."));
        root.join(file_name(namespace)).with_extension("corpora")
    }

    fn corpus_files(&self, namespace: &str) -> Result<Vec<PathBuf>, DraftStoreError> {
        let directory = self.corpus_directory(namespace);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error(&directory)(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error(&directory))?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// The file of a namespace. Names have no `+`.
fn file_name(namespace: &str) -> String {
    format!("{}.{EXTENSION}", namespace.replace('/', "+"))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> DraftStoreError {
    let path = path.to_owned();
    move |source| DraftStoreError::Io { path: path.clone(), source }
}

fn learn(lessons: &Receiver<Lesson>) {
    for lesson in lessons {
        match lesson {
            Lesson::End(drafter) => drop(drafter),
            Lesson::Barrier(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// A drafter that ends on the learner's thread.
struct Deferred {
    drafter: Option<Box<NamespaceDrafter>>,
    learner: Sender<Lesson>,
}

impl Deferred {
    fn inner(&mut self) -> &mut NamespaceDrafter {
        self.drafter.as_mut().expect("taken when it is dropped")
    }
}

impl Drafter for Deferred {
    fn begin(&mut self, prompt: &[TokenId]) {
        self.inner().begin(prompt);
    }

    fn draft(&mut self, context: &[TokenId], limits: DraftLimits) -> Draft {
        self.inner().draft(context, limits)
    }

    fn cost(&self) -> Option<&CostCurve> {
        self.drafter.as_ref().and_then(|drafter| drafter.cost())
    }

    fn runners_up(&self) -> usize {
        self.drafter.as_ref().map_or(0, |drafter| drafter.runners_up())
    }

    fn observe(&mut self, context: &[TokenId], likeliest: &[Candidate]) {
        self.inner().observe(context, likeliest);
    }

    fn accept(&mut self, tokens: &[TokenId]) {
        self.inner().accept(tokens);
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(drafter) = self.drafter.take() {
            // Without the learner's thread it is dropped here.
            let _ = self.learner.send(Lesson::End(drafter));
        }
    }
}
