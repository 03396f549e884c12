//! A tenant's namespaces: those that are open, opened when requests name them and closed where others need the room.
//!
//! No tenant waits for another, nor counts what another has: each has its own locks, bounds and thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lookahead_engine::{DraftPolicy, Drafter, NamespaceDrafter, RequestText};
use lookahead_trie::{Corpus, CorpusBuilder, Namespace, NamespaceStats, TrieError};
use tokio::sync::Semaphore;

use super::corpora::{CorpusInfo, Usage};
use super::error::DraftStoreError;
use super::lessons::Lessons;
use super::name::NamespaceName;
use super::settings::Settings;

/// What stands in front of the names of corpora that the operator gave.
const SHARED: &str = "shared:";

/// What a tenant has.
pub(super) struct Tenant {
    name: String,
    pub(super) settings: Arc<Settings>,
    /// Those that are open, the one last that was used last.
    open: Mutex<Vec<OpenNamespace>>,
    /// Held while a namespace is opened, saved or closed, or its corpora change: while there is disk work to do. Whoever has
    /// to do with open namespaces alone does not wait for it.
    changing: Mutex<()>,
    /// The right to send a corpus.
    pub(super) uploads: Arc<Semaphore>,
    lessons: Lessons,
}

struct OpenNamespace {
    name: NamespaceName,
    /// Besides this one, each request that uses it has a clone, and whoever holds `changing` may have one.
    namespace: Arc<Namespace>,
}

/// A namespace that a request drafts from; it is not closed meanwhile.
#[derive(Clone)]
pub(crate) struct UsedNamespace {
    namespace: Arc<Namespace>,
    lessons: Lessons,
}

/// What can be said of a namespace without opening it.
pub(crate) struct NamespaceReport {
    pub(crate) is_open: bool,
    /// All zero unless it is open.
    pub(crate) stats: NamespaceStats,
    /// Bytes of its file and its journal.
    pub(crate) disk_bytes: u64,
    /// Why its file cannot be used.
    pub(crate) problem: Option<String>,
}

impl UsedNamespace {
    /// A drafter for one answer to the prompt of `text`. What its end teaches the namespace is learned by a thread of the tenant's own.
    pub(crate) fn drafter(&self, policy: DraftPolicy, text: Arc<RequestText>) -> Box<dyn Drafter> {
        let drafter = NamespaceDrafter::new(Arc::clone(&self.namespace), policy);
        self.lessons.defer(drafter.with_text(text))
    }
}

impl Tenant {
    pub(super) fn new(name: &str, settings: Arc<Settings>) -> Self {
        Self {
            name: name.to_owned(),
            settings,
            open: Mutex::default(),
            changing: Mutex::default(),
            uploads: Arc::new(Semaphore::new(1)),
            lessons: Lessons::start(),
        }
    }

    /// The namespace of this name, opened if it is not; `None` if as many as may be open are in use.
    pub(super) fn open(&self, name: &NamespaceName) -> Result<Option<UsedNamespace>, DraftStoreError> {
        if let Some(used) = self.use_open(name) {
            return Ok(Some(used));
        }
        let _changing = lock(&self.changing);
        // It may have been opened meanwhile.
        if let Some(used) = self.use_open(name) {
            return Ok(Some(used));
        }
        if !self.make_room() {
            return Ok(None);
        }
        let namespace = Arc::new(self.read(name)?);
        let used = self.used(&namespace);
        lock(&self.open).push(OpenNamespace { name: name.clone(), namespace });
        Ok(Some(used))
    }

    /// An empty namespace that no other request sees.
    pub(super) fn private(&self) -> Result<UsedNamespace, DraftStoreError> {
        Ok(self.used(&Arc::new(Namespace::new(self.settings.options.namespace_bytes)?)))
    }

    fn used(&self, namespace: &Arc<Namespace>) -> UsedNamespace {
        UsedNamespace { namespace: Arc::clone(namespace), lessons: self.lessons.clone() }
    }

    /// The namespace of this name if it is open; it is the one used last then.
    fn use_open(&self, name: &NamespaceName) -> Option<UsedNamespace> {
        let mut open = lock(&self.open);
        let at = open.iter().position(|open| open.name == *name)?;
        let last = open.remove(at);
        let used = self.used(&last.namespace);
        open.push(last);
        Some(used)
    }

    /// Closes the namespace that nobody uses for the longest time, if there must be room for another; whether there is.
    fn make_room(&self) -> bool {
        let mut open = lock(&self.open);
        if open.len() < self.settings.options.max_namespaces {
            return true;
        }
        // Nobody gets a clone meanwhile: clones are made under this lock.
        let idle = open.iter().position(|open| Arc::strong_count(&open.namespace) == 1);
        let Some(OpenNamespace { name, namespace }) = idle.map(|at| open.remove(at)) else { return false };
        drop(open);
        if let Err(error) = namespace.save() {
            tracing::error!(namespace = %name, "closed before all that was learned is saved: {error}");
            self.settings.metrics.snapshot_failures.inc();
        }
        tracing::debug!(namespace = %name, "closed, as another one needs its place");
        true
    }

    /// A namespace with all that is kept of it.
    fn read(&self, name: &NamespaceName) -> Result<Namespace, DraftStoreError> {
        let Settings { options, layout, fingerprint, metrics } = &*self.settings;
        let namespace = match layout.drafts(name) {
            Some(path) => {
                self.make_room_on_disk(name)?;
                Namespace::open(&path, *fingerprint, options.namespace_bytes)?
            }
            None => Namespace::new(options.namespace_bytes)?,
        };
        for corpus in &options.corpora {
            namespace.add_corpus(&format!("{SHARED}{}", corpus.path().display()), corpus.clone())?;
        }
        let folder = layout.corpora(name);
        folder.sweep();
        let corpora = folder.open_all(&namespace, *fingerprint).unwrap_or_else(|error| {
            tracing::error!(namespace = %name, "its corpora are passed over: {error}");
            metrics.corpus_failures.inc();
            Vec::new()
        });
        for corpus in corpora {
            if let Some(problem) = corpus.problem {
                tracing::error!(namespace = %name, corpus = corpus.name, "a corpus is passed over: {problem}");
                metrics.corpus_failures.inc();
            }
        }
        Ok(namespace)
    }

    /// Forgets the namespaces that learned nothing for the longest time, if this one is not kept yet and there are as many as
    /// may be.
    fn make_room_on_disk(&self, name: &NamespaceName) -> Result<(), DraftStoreError> {
        let Settings { options, layout, .. } = &*self.settings;
        if layout.kept_bytes(name).is_some() {
            return Ok(());
        }
        let kept = layout.kept(&self.name)?;
        // Those that are open stay, and there is room for one more of them.
        let most = options.max_kept_namespaces.max(options.max_namespaces);
        let surplus = (kept.len() + 1).saturating_sub(most);
        let open: Vec<String> = lock(&self.open).iter().map(|open| open.name.stem()).collect();
        let closed = kept.iter().filter(|kept| !open.contains(&kept.stem));
        closed.take(surplus).try_for_each(|kept| {
            tracing::info!(namespace = kept.stem, "forgotten: its key has --max-kept-namespaces newer ones");
            layout.forget(kept)
        })
    }

    /// What there is to say of a namespace. It is not opened.
    pub(super) fn report(&self, name: &NamespaceName) -> NamespaceReport {
        let Settings { layout, fingerprint, .. } = &*self.settings;
        let stats =
            lock(&self.open).iter().find(|open| open.name == *name).map(|open| open.namespace.stats());
        let problem = layout
            .drafts(name)
            .filter(|path| stats.is_none() && path.exists())
            .and_then(|path| Corpus::inspect(&path, Some(*fingerprint)).err().map(|error| error.to_string()));
        NamespaceReport {
            is_open: stats.is_some(),
            stats: stats.unwrap_or_default(),
            disk_bytes: layout.kept_bytes(name).unwrap_or(0),
            problem,
        }
    }

    /// How full each open namespace is.
    pub(super) fn stats(&self) -> Vec<NamespaceStats> {
        lock(&self.open).iter().map(|open| open.namespace.stats()).collect()
    }

    /// Returns when all requests that have ended until now have taught their namespaces.
    pub(super) fn wait_for_lessons(&self) {
        self.lessons.wait();
    }

    /// Learns what has ended and saves every open namespace that is kept. What failed, by name.
    pub(super) fn save(&self) -> Vec<(String, TrieError)> {
        self.wait_for_lessons();
        let names: Vec<NamespaceName> = lock(&self.open).iter().map(|open| open.name.clone()).collect();
        let save = |name: NamespaceName| {
            let _changing = lock(&self.changing);
            let error = self.find(&name)?.save().err()?;
            Some((name.to_string(), error))
        };
        names.into_iter().filter_map(save).collect()
    }

    /// For who holds `changing`.
    fn find(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        lock(&self.open).iter().find(|open| open.name == *name).map(|open| Arc::clone(&open.namespace))
    }

    /// The corpora that were sent to a namespace, those that cannot be used among them. It is not opened.
    pub(super) fn corpora(&self, name: &NamespaceName) -> Result<Vec<CorpusInfo>, DraftStoreError> {
        self.settings.layout.corpora(name).list(self.settings.fingerprint)
    }

    /// What the corpora of all namespaces take.
    pub(super) fn usage(&self) -> Result<Usage, DraftStoreError> {
        let mut sum = Usage::default();
        for folder in self.settings.layout.all_corpora(&self.name)? {
            let Usage { corpora, bytes } = folder.usage()?;
            (sum.corpora, sum.bytes) = (sum.corpora + corpora, sum.bytes + bytes);
        }
        Ok(sum)
    }

    /// Keeps a corpus by the name `corpus`, in place of one that has it, and lets the namespace draft from it, if it is open;
    /// else it will, once it is.
    pub(super) fn add_corpus(
        &self,
        name: &NamespaceName,
        corpus: &str,
        texts: CorpusBuilder,
    ) -> Result<CorpusInfo, DraftStoreError> {
        let Settings { layout, fingerprint, .. } = &*self.settings;
        let folder = layout.corpora(name);
        let written = folder.write(texts, *fingerprint)?;
        let _changing = lock(&self.changing);
        let kept = folder.place(written, corpus, *fingerprint)?;
        let (tokens, bytes) = (kept.tokens(), kept.bytes());
        if let Some(namespace) = self.find(name)
            && let Err(error) = namespace.add_corpus(corpus, kept)
        {
            folder.remove(corpus)?;
            return Err(error.into());
        }
        Ok(CorpusInfo { name: corpus.to_owned(), tokens, bytes, problem: None })
    }

    /// Removes a corpus that was sent; whether there was one.
    pub(super) fn remove_corpus(&self, name: &NamespaceName, corpus: &str) -> Result<bool, DraftStoreError> {
        let _changing = lock(&self.changing);
        let was_there = self.settings.layout.corpora(name).remove(corpus)?;
        if let Some(namespace) = self.find(name).filter(|_| was_there) {
            namespace.remove_corpus(corpus);
        }
        Ok(was_there)
    }
}

/// What is behind `mutex`: each holder leaves it whole, even one that panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
