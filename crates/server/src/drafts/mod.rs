//! What drafts are made from: a namespace for each tenant and each name that it gives, kept in files if there is a directory, and
//! the corpora that were sent to it.
//!
//! What a tenant may have is bounded: namespaces in memory and on the disk, corpora in number and bytes. Beyond that its own
//! make room, or its own request does without; no tenant is refused anything because of another.

mod corpora;
pub(crate) mod error;
mod layout;
mod lessons;
mod name;
mod settings;
mod tenant;
mod upload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lookahead_trie::{MIN_BYTES, NamespaceStats, TrieError};

pub(crate) use self::corpora::CorpusInfo;
use self::error::DraftStoreError;
use self::layout::Layout;
pub(crate) use self::name::NamespaceName;
use self::settings::Settings;
pub(crate) use self::tenant::{NamespaceReport, UsedNamespace};
use self::tenant::{Tenant, lock};
pub(crate) use self::upload::Upload;
use crate::metrics::Metrics;
use crate::options::DraftOptions;

/// All namespaces.
pub(crate) struct DraftStore {
    settings: Arc<Settings>,
    tenants: Mutex<BTreeMap<String, Arc<Tenant>>>,
}

impl DraftStore {
    /// A store for tokens of the tokenizer with this `fingerprint`. Namespaces are opened when requests name them.
    pub(crate) fn new(
        options: DraftOptions,
        fingerprint: u64,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DraftStoreError> {
        if options.namespace_bytes < MIN_BYTES {
            return Err(TrieError::MaxBytes(options.namespace_bytes).into());
        }
        let layout = Layout::new(options.directory.as_deref())?;
        let settings = Arc::new(Settings { options, fingerprint, layout, metrics });
        Ok(Self { settings, tenants: Mutex::default() })
    }

    /// What a request drafts from. It is answered whatever becomes of files and of other requests: where its namespace cannot
    /// be had, it drafts from one that is empty and its own.
    pub(crate) fn namespace(&self, name: &NamespaceName) -> Result<UsedNamespace, DraftStoreError> {
        let (tenant, metrics) = (self.tenant(name), &self.settings.metrics);
        match tenant.open(name) {
            Ok(Some(namespace)) => Ok(namespace),
            Ok(None) => {
                let most = self.settings.options.max_namespaces;
                tracing::warn!(
                    namespace = %name,
                    "a request drafts from nothing: all {most} namespaces of --max-namespaces are in use"
                );
                metrics.namespace_fallbacks.inc();
                tenant.private()
            }
            Err(error) => {
                tracing::error!(namespace = %name, "a request drafts from nothing: {error}");
                metrics.namespace_failures.inc();
                tenant.private()
            }
        }
    }

    /// What there is to say of a namespace.
    pub(crate) fn report(&self, name: &NamespaceName) -> NamespaceReport {
        self.tenant(name).report(name)
    }

    /// Begins to take a corpus of at most `max_bytes` bytes, its index included.
    pub(crate) fn upload(
        &self,
        namespace: NamespaceName,
        corpus: String,
        max_bytes: usize,
    ) -> Result<Upload, DraftStoreError> {
        Upload::begin(self.tenant(&namespace), namespace, corpus, max_bytes)
    }

    /// The corpora that were sent to a namespace.
    pub(crate) fn corpora(&self, namespace: &NamespaceName) -> Result<Vec<CorpusInfo>, DraftStoreError> {
        self.tenant(namespace).corpora(namespace)
    }

    /// Removes a corpus that was sent to a namespace; whether there was one.
    pub(crate) fn remove_corpus(
        &self,
        namespace: &NamespaceName,
        corpus: &str,
    ) -> Result<bool, DraftStoreError> {
        self.tenant(namespace).remove_corpus(namespace, corpus)
    }

    /// Learns what has ended and saves every namespace that is kept. What failed, by name.
    pub(crate) fn save(&self) -> Vec<(String, TrieError)> {
        self.tenants().iter().flat_map(|tenant| tenant.save()).collect()
    }

    /// How full each open namespace is.
    pub(crate) fn stats(&self) -> Vec<NamespaceStats> {
        self.tenants().iter().flat_map(|tenant| tenant.stats()).collect()
    }

    fn tenants(&self) -> Vec<Arc<Tenant>> {
        lock(&self.tenants).values().cloned().collect()
    }

    /// The tenant whose namespace this is. There are as many as keys.
    fn tenant(&self, namespace: &NamespaceName) -> Arc<Tenant> {
        let name = namespace.tenant();
        let mut tenants = lock(&self.tenants);
        if let Some(known) = tenants.get(name) {
            return Arc::clone(known);
        }
        let tenant = Arc::new(Tenant::new(name, Arc::clone(&self.settings)));
        tenants.insert(name.to_owned(), Arc::clone(&tenant));
        tenant
    }
}
