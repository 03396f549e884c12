//! A corpus that is being sent: counted while it comes, so that neither memory nor disk is taken beyond what its tenant may have.

use std::sync::Arc;

use lookahead_model::TokenId;
use lookahead_trie::CorpusBuilder;
use tokio::sync::OwnedSemaphorePermit;

use super::corpora::CorpusInfo;
use super::error::{CorpusLimit, DraftStoreError};
use super::name::NamespaceName;
use super::tenant::Tenant;
use crate::auth::is_name;
use crate::excerpt::excerpt;

/// A corpus that is being sent. Each tenant sends one at a time; dropped, it leaves nothing behind.
pub(crate) struct Upload {
    tenant: Arc<Tenant>,
    namespace: NamespaceName,
    corpus: String,
    texts: CorpusBuilder,
    max_corpus_bytes: usize,
    /// What texts and index may take: in memory now, and on the disk then.
    max_bytes: usize,
    /// What `max_bytes` comes from.
    limit: CorpusLimit,
    _only_one: OwnedSemaphorePermit,
}

impl Upload {
    /// Begins, if the tenant may have another corpus.
    pub(super) fn begin(
        tenant: Arc<Tenant>,
        namespace: NamespaceName,
        corpus: String,
        max_corpus_bytes: usize,
    ) -> Result<Self, DraftStoreError> {
        if !is_name(&corpus) {
            return Err(DraftStoreError::Name { what: "name", name: excerpt(&corpus).into_owned() });
        }
        let Ok(only_one) = Arc::clone(&tenant.uploads).try_acquire_owned() else {
            return Err(DraftStoreError::UploadInProgress);
        };
        let options = &tenant.settings.options;
        let usage = tenant.usage()?;
        let replaced = tenant.settings.layout.corpora(&namespace).bytes(&corpus);
        if replaced.is_none() && usage.corpora >= options.max_corpora {
            let limit = CorpusLimit::Number(options.max_corpora);
            return Err(DraftStoreError::TooMuch { corpus, limit });
        }
        let left = options.corpora_bytes.saturating_sub(usage.bytes - replaced.unwrap_or(0).min(usage.bytes));
        let (max_bytes, limit) = if left < max_corpus_bytes as u64 {
            (left as usize, CorpusLimit::Disk(options.corpora_bytes))
        } else {
            (max_corpus_bytes, CorpusLimit::Size(max_corpus_bytes))
        };
        let texts = CorpusBuilder::default();
        Ok(Self { tenant, namespace, corpus, texts, max_corpus_bytes, max_bytes, limit, _only_one: only_one })
    }

    /// Refuses a body that has so many bytes by now.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), DraftStoreError> {
        if bytes <= self.max_corpus_bytes {
            return Ok(());
        }
        let limit = CorpusLimit::Size(self.max_corpus_bytes);
        Err(DraftStoreError::TooMuch { corpus: self.corpus.clone(), limit })
    }

    /// Adds a text.
    pub(crate) fn add(&mut self, tokens: &[TokenId]) -> Result<(), DraftStoreError> {
        if self.texts.add_within(tokens, self.max_bytes) {
            return Ok(());
        }
        Err(DraftStoreError::TooMuch { corpus: self.corpus.clone(), limit: self.limit })
    }

    /// Tokens added.
    pub(crate) fn tokens(&self) -> u64 {
        self.texts.tokens()
    }

    /// Keeps the corpus, in place of one of the same name.
    pub(crate) fn finish(self) -> Result<CorpusInfo, DraftStoreError> {
        let Self { tenant, namespace, corpus, texts, .. } = self;
        tenant
            .add_corpus(&namespace, &corpus, texts)
            .map_err(|problem| DraftStoreError::NotKept { corpus, problem: Box::new(problem) })
    }
}
