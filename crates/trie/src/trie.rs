//! The draft trie: the forest that requests share, and the operations on it.

use std::io::{Read, Write};

use crate::forest::{Forest, OpenBranches};
use crate::request::{OutputSharing, RequestDrafts};
use crate::retrieve::{Sources, retrieve};
use crate::{DraftSource, DraftTree, RetrievalParams, TokenId, TrieError, persist};

/// The least branch length: one token to match and one to draft.
pub const MIN_BRANCH_LENGTH: usize = 2;

/// The greatest branch length.
pub const MAX_BRANCH_LENGTH: usize = 255;

/// The least memory bound: room for a few of the longest branches.
pub const MIN_BYTES: usize = 64 << 10;

/// How a trie is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrieConfig {
    /// Tokens of a branch, its first included: [`MIN_BRANCH_LENGTH`] to [`MAX_BRANCH_LENGTH`]. Contexts are matched up
    /// to one token less.
    pub branch_length: usize,
    /// Bound of the shared forest in bytes, at least [`MIN_BYTES`]. Past it, the forest is pruned.
    pub max_bytes: usize,
    /// Bound of each request's private forest in bytes, at least [`MIN_BYTES`].
    pub max_request_bytes: usize,
}

impl Default for TrieConfig {
    /// Branches of 12 tokens (the paper's default); 256 MiB shared, about a million tokens; 64 MiB a request.
    fn default() -> Self {
        Self { branch_length: 12, max_bytes: 256 << 20, max_request_bytes: 64 << 20 }
    }
}

impl TrieConfig {
    fn check(&self) -> Result<(), TrieError> {
        if !(MIN_BRANCH_LENGTH..=MAX_BRANCH_LENGTH).contains(&self.branch_length) {
            return Err(TrieError::BranchLength(self.branch_length));
        }
        match self.max_bytes.min(self.max_request_bytes) {
            too_few @ 0..MIN_BYTES => Err(TrieError::MaxBytes(too_few)),
            _ => Ok(()),
        }
    }
}

/// How full the shared forest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrieStats {
    /// Nodes.
    pub nodes: usize,
    /// Allocated bytes, at most `TrieConfig::max_bytes`.
    pub bytes: usize,
    /// Tokens inserted in its lifetime, those since pruned included.
    pub tokens_inserted: u64,
}

/// The trie of one namespace: everything that its requests share.
///
/// Drafts are a deterministic function of what was inserted, in order.
pub struct DraftTrie {
    config: TrieConfig,
    shared: Forest,
}

impl DraftTrie {
    /// An empty trie.
    ///
    /// # Errors
    /// If a value of `config` is out of range.
    pub fn new(config: TrieConfig) -> Result<Self, TrieError> {
        config.check()?;
        Ok(Self { shared: Forest::new(config.branch_length, config.max_bytes), config })
    }

    /// Inserts one text of a corpus, or an earlier answer, into the shared forest.
    pub fn warm_up(&mut self, tokens: &[TokenId]) {
        self.shared.extend(&mut OpenBranches::default(), tokens);
    }

    /// Starts a request: its prompt branches go to a forest of its own.
    pub fn begin_request(&self, prompt: &[TokenId], sharing: OutputSharing) -> RequestDrafts {
        let private = Forest::new(self.config.branch_length, self.config.max_request_bytes);
        let mut request = RequestDrafts::new(private, sharing);
        request.extend(prompt);
        request
    }

    /// Appends accepted output tokens to the request's context, to its private forest and, unless it keeps its output
    /// to itself, to the shared one.
    pub fn append(&mut self, request: &mut RequestDrafts, tokens: &[TokenId]) {
        request.extend(tokens);
        if request.sharing == OutputSharing::Shared {
            self.shared.extend(&mut request.shared_open, tokens);
        }
    }

    /// Drafts what may follow the request's context into `tree`, whose memory is reused. The root is the last token of
    /// the context; where nothing is known or likely enough, it stays alone.
    pub fn retrieve(&self, request: &mut RequestDrafts, params: &RetrievalParams, tree: &mut DraftTree) {
        let RequestDrafts { private, scratch, context, .. } = request;
        let sources: Sources<'_> = match params.source {
            DraftSource::Prompt => [Some(private), None],
            DraftSource::Output => [None, Some(&self.shared)],
            DraftSource::Mixed => [Some(private), Some(&self.shared)],
        };
        retrieve(sources, context, params, scratch, tree);
    }

    /// Ends a request and eliminates its prompt branches. Dropping it does the same.
    pub fn finish(&self, request: RequestDrafts) {
        drop(request);
    }

    /// How full the shared forest is.
    pub fn stats(&self) -> TrieStats {
        TrieStats {
            nodes: self.shared.node_count(),
            bytes: self.shared.bytes(),
            tokens_inserted: self.shared.tokens_inserted(),
        }
    }

    /// Writes the shared forest. `tokenizer` is a fingerprint of the tokenizer that the token ids belong to.
    ///
    /// # Errors
    /// If writing fails.
    pub fn save(&self, tokenizer: u64, writer: impl Write) -> Result<(), TrieError> {
        persist::save(&self.shared, tokenizer, writer)
    }

    /// Reads a shared forest. Branches longer than those of `config` are cut, and the forest is pruned where it
    /// exceeds the memory bound. May read past the end of the content.
    ///
    /// # Errors
    /// If `config` is out of range, or the content is damaged, of another version or of another tokenizer.
    pub fn load(config: TrieConfig, tokenizer: u64, reader: impl Read) -> Result<Self, TrieError> {
        config.check()?;
        let shared = persist::load(Forest::new(config.branch_length, config.max_bytes), tokenizer, reader)?;
        Ok(Self { config, shared })
    }
}
