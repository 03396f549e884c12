//! The one trait between an engine and a model: a batch of token trees with their KV caches in, logits out.
//!
//! The CPU is its first implementation. The contract that every implementation keeps: the logits of a token are a pure
//! function of the token ids at and before it on its path. They do not depend on the shape of the tree, on how a
//! prompt was cut into chunks, on other sequences in the batch, or on the number of threads; not in a single bit.

use std::ops::Range;

use lookahead_kernels::Keep;
use lookahead_trie::TokenId;

use crate::logits::Logits;
use crate::token_tree::TokenTree;

/// What a sequence remembers between forward passes: keys and values of its tokens, or the states of recurrences.
///
/// A forward pass leaves what it computed for each node of the tree *pending* behind the `len` committed tokens, until
/// [`LanguageModel::commit`] says which nodes lie on the accepted path.
pub trait Cache: Sized {
    /// Committed tokens: the length of the context that the next tree hangs off.
    fn len(&self) -> usize;

    /// Whether nothing is committed yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens, committed and pending together, the cache has room for.
    fn capacity(&self) -> usize;

    /// Takes memory for `certain` tokens of a prompt behind the committed ones and `nodes` nodes of a draft behind those, so
    /// that passes over them find it. A pass takes what was not reserved. The states of recurrent layers take the tokens of a
    /// prompt in at once, and keep what each node of a draft fed in.
    ///
    /// # Errors
    /// If the caches of the model together have no memory left. What is committed stays.
    fn reserve(&mut self, certain: usize, nodes: usize) -> Result<(), OutOfCacheMemory>;

    /// How many tokens a [`fork`](Self::fork) of `len` tokens takes over at most: of keys and values all that are
    /// committed, of the state of a recurrence those up to the last snapshot.
    fn forkable(&self, len: usize) -> usize;

    /// A cache for another sequence, of up to `capacity` tokens, that begins with the first [`forkable`](Self::forkable)
    /// of `len` tokens. What both hold is shared as far as possible; where there is no memory for the rest, the new cache
    /// begins with fewer.
    #[must_use]
    fn fork(&self, len: usize, capacity: usize) -> Self;
}

/// There is no memory for more rows: all that KV caches may take is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory is left for KV caches")]
pub struct OutOfCacheMemory;

/// The memory of all caches of a model together. What caches share counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheMemory {
    /// Bytes that caches may take; `usize::MAX` without a bound.
    pub total_bytes: usize,
    /// Bytes that caches have taken.
    pub used_bytes: usize,
    /// Bytes that a cache grows by with each token; 0 if it does not grow.
    pub token_bytes: usize,
    /// How many tokens it grows by at a time.
    pub page_tokens: usize,
    /// Bytes that a cache takes besides, however many tokens it holds.
    pub state_bytes: usize,
    /// Bytes that each node of a draft takes besides, until its path is known.
    pub node_bytes: usize,
}

impl CacheMemory {
    /// Tokens that there is room for, if nothing else is in it; `usize::MAX` without a bound, or if caches do not grow.
    pub fn total_tokens(&self) -> usize {
        self.tokens_in(self.total_bytes)
    }

    /// Tokens of one sequence that there is room for, with drafts of `nodes` nodes behind them.
    pub fn sequence_tokens(&self, nodes: usize) -> usize {
        let besides = self.state_bytes.saturating_add(self.node_bytes.saturating_mul(nodes));
        let left = self.total_bytes.checked_sub(besides);
        left.map_or(0, |bytes| self.tokens_in(bytes).saturating_sub(nodes))
    }

    /// Bytes of a sequence of one token with drafts of `nodes` nodes behind it: what must be there at least.
    pub fn least_bytes(&self, nodes: usize) -> usize {
        let pages = (nodes + 1).div_ceil(self.page_tokens);
        self.state_bytes + self.node_bytes * nodes + pages * self.page_tokens * self.token_bytes
    }

    fn tokens_in(&self, bytes: usize) -> usize {
        match bytes.checked_div(self.page_tokens * self.token_bytes) {
            Some(pages) if bytes < usize::MAX => pages * self.page_tokens,
            _ => usize::MAX,
        }
    }

    /// Tokens whose room is taken.
    pub fn used_tokens(&self) -> usize {
        self.used_bytes.checked_div(self.token_bytes).unwrap_or(0)
    }
}

/// Which nodes of a tree the caller wants logits for.
///
/// A chain of which it wants those of every node may be a draft. Any other is a part of a prompt: all of its nodes but the last
/// are certain, and are in the cache for good after the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsOf {
    /// None: all chunks of a prefill but the last.
    Nothing,
    /// The last node only: the last chunk of a prefill.
    Last,
    /// Every node: verification of a draft tree.
    Every,
}

/// One sequence's part of a forward pass.
pub struct SequenceStep<'a, C> {
    /// The tokens to run, a tree behind the cache's committed tokens.
    pub tree: &'a TokenTree,
    /// The sequence's cache.
    pub cache: &'a mut C,
    /// The nodes to return logits for.
    pub logits_of: LogitsOf,
    /// What to keep of the logits of each of them.
    pub keep: Keep,
}

impl<C> SequenceStep<'_, C> {
    /// The nodes to return logits for.
    pub fn asked(&self) -> Range<usize> {
        let nodes = self.tree.len();
        match self.logits_of {
            LogitsOf::Nothing => nodes..nodes,
            LogitsOf::Last => nodes - 1..nodes,
            LogitsOf::Every => 0..nodes,
        }
    }

    /// How many of the first nodes are a part of a prompt that is sure to be committed.
    pub(crate) fn certain(&self) -> usize {
        let last = self.tree.len() - 1;
        let is_chain = self.tree.depths()[last] as usize == last;
        if self.logits_of != LogitsOf::Every && is_chain { last } else { 0 }
    }

    /// What to keep of the logits of each node that is asked for.
    pub fn kept(&self) -> impl Iterator<Item = Keep> + use<C> {
        std::iter::repeat_n(self.keep, self.asked().len())
    }
}

/// The nodes of one sequence's last pass that lie on the path that was accepted.
pub struct Accepted<'a, C> {
    /// The sequence's cache.
    pub cache: &'a mut C,
    /// Node indices of the pass, ascending, the root first.
    pub path: &'a [u32],
}

/// Why a forward pass could not run. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// A token id outside the vocabulary.
    #[error("token id {token} is outside the vocabulary of {vocabulary_size} tokens")]
    UnknownToken {
        /// The id.
        token: TokenId,
        /// Tokens that the model knows.
        vocabulary_size: usize,
    },
    /// The cache has no room for the tree.
    #[error("the KV cache holds {capacity} tokens; {committed} are in it and {new} more do not fit")]
    CacheFull {
        /// Room in tokens.
        capacity: usize,
        /// Committed tokens.
        committed: usize,
        /// Nodes of the tree.
        new: usize,
    },
    /// The caches of the model together have no memory for the tree.
    #[error(transparent)]
    OutOfCacheMemory(#[from] OutOfCacheMemory),
    /// The device has failed. What caches hold of this pass is anything; sequences with states of recurrent layers do not go on.
    #[error("{0}")]
    Device(String),
}

/// A decoder-only language model.
pub trait LanguageModel {
    /// The cache of one sequence.
    type Cache: Cache;

    /// Tokens in the vocabulary: the width of a row of logits.
    fn vocabulary_size(&self) -> usize;

    /// The most tokens that a sequence may have: the context length that the model was trained for.
    fn context_length(&self) -> usize;

    /// How many nodes a pass may have, all trees together.
    fn pass_nodes(&self) -> usize {
        usize::MAX
    }

    /// What computes: `cpu`, or the name of a GPU.
    fn device(&self) -> String {
        "cpu".to_owned()
    }

    /// An empty cache with room for `capacity` tokens.
    fn new_cache(&self, capacity: usize) -> Self::Cache;

    /// How much memory the caches of this model take, and may take.
    fn cache_memory(&self) -> CacheMemory;

    /// Runs the trees of `batch` in one pass and writes the logits asked for to `logits`.
    ///
    /// Afterwards each tree's nodes are pending in its cache, until [`commit`](Self::commit). Nodes that were still
    /// pending before the call are dropped; those of a part of a prompt are committed first.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a cache is full, or memory for caches has run out; nothing has changed then.
    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, Self::Cache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError>;

    /// Makes the accepted path of each sequence part of its context, for all of them at once, and drops the other pending
    /// nodes.
    ///
    /// # Panics
    /// If a path names a node that is not pending, does not ascend, or leaves out a node of a part of a prompt other than the last: a
    /// bug of the caller.
    fn commit(&mut self, batch: &mut [Accepted<'_, Self::Cache>]);
}
