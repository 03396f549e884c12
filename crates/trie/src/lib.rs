//! Draft trie for lossless lookahead decoding: drafts a small tree of likely continuations from everything seen so
//! far, for a language model to verify in one forward pass.
//!
//! The method is that of Zhao et al., "Lookahead: An Inference Acceleration Framework for Large Language Model with
//! Lossless Generation Accuracy" (KDD 2024, arXiv 2312.12728). The crate knows nothing of models: tokens in, draft
//! trees out. It can be embedded in any engine that verifies trees, or chains ([`DraftTree::best_chain`]).
//!
//! - Each request has a private forest with its prompt and its output. It goes when the request ends, and no other
//!   request can see it.
//! - Accepted output goes to the shared forest on the fly, unless the request keeps it to itself. Both are bounded in
//!   bytes.
//! - A draft grows best-first by estimated path probability, from both forests at once.
//!
//! There are two engines. [`DraftTrie`] is the paper's trie with estimated probabilities, and what the engine of this project
//! drafts from today. [`Namespace`] is its successor, which keeps the texts themselves and their index: no limit on the length
//! of a match, trust in each kind of evidence learned online, the model's runners-up, and a request that shares nothing until
//! it is finished.
//!
//! ```
//! use lookahead_trie::{DraftTree, DraftTrie, OutputSharing, RetrievalParams, TrieConfig};
//!
//! # fn main() -> Result<(), lookahead_trie::TrieError> {
//! let mut trie = DraftTrie::new(TrieConfig::default())?;
//! let prompt = [1, 2, 3, 4, 5, 6, 1, 2];
//! let mut request = trie.begin_request(&prompt, OutputSharing::Shared);
//!
//! let mut draft = DraftTree::default();
//! let params = RetrievalParams { draft_length: 3, ..RetrievalParams::default() };
//! trie.retrieve(&mut request, &params, &mut draft);
//! assert_eq!(draft.tokens(), [2, 3, 4, 5]); // node 0 is the context's last token
//! assert_eq!(draft.parents(), [0, 0, 1, 2]);
//!
//! // The model, run over the draft, accepts 3 and 4 and adds 9: append them and go on.
//! trie.append(&mut request, &[3, 4, 9]);
//! trie.finish(request);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod draft_tree;
mod error;
mod estimate;
mod forest;
mod growth;
mod history;
mod namespace;
mod persist;
mod request;
mod retrieve;
mod runners_up;
mod shape;
mod trie;
mod trust;

/// The id of a token in the model's vocabulary.
pub type TokenId = u32;

pub use draft_tree::DraftTree;
pub use error::TrieError;
pub use growth::DraftBounds;
pub use namespace::{Namespace, Reliability, ReliabilityBin, Request};
pub use request::{OutputSharing, RequestDrafts};
pub use runners_up::RANKS;
pub use shape::{DraftShape, DraftSource, RetrievalParams};
pub use trie::{DraftTrie, MAX_BRANCH_LENGTH, MIN_BRANCH_LENGTH, MIN_BYTES, TrieConfig, TrieStats};
