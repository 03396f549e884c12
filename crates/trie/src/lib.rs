//! Draft trie for lossless lookahead decoding: drafts a small tree of likely continuations from everything seen so
//! far, for a language model to verify in one forward pass.
//!
//! The method is that of Zhao et al., "Lookahead: An Inference Acceleration Framework for Large Language Model with
//! Lossless Generation Accuracy" (KDD 2024, arXiv 2312.12728). The crate knows nothing of models: tokens in, draft
//! trees out. It can be embedded in any engine that verifies trees, or chains ([`DraftTree::best_chain`]).
//!
//! - A [`Namespace`] keeps the texts that its requests share, and an index of their sequences: a match may be of any length.
//! - Each [`Request`] has a text of its own: its prompt, references, and its output so far. No other request ever sees it; when
//!   it is finished, its output joins the namespace, unless it keeps that to itself ([`Sharing`]).
//! - A draft grows best-first by estimated path probability. What to trust how far is learned online from what the model
//!   really produced.
//! - How large a draft pays is told by what passes cost ([`CostCurve`], [`PassCost`], [`LinearCost`]), which the engine measures.
//! - Any number of threads draft while others add. Memory is bounded in bytes, and the oldest text goes first.
//! - A namespace can be kept in a file with a journal ([`Namespace::open`]); a [`Corpus`] is such a file that several
//!   processes read.
//!
//! ```
//! use lookahead_trie::{DraftParams, Namespace, Sharing};
//!
//! # fn main() -> Result<(), lookahead_trie::TrieError> {
//! let namespace = Namespace::new(64 << 20)?;
//! let prompt = [1, 2, 3, 4, 5, 6, 1, 2];
//! let mut request = namespace.begin(&prompt, &[], Sharing::ReadWrite);
//!
//! let params = DraftParams { nodes: 3, ..DraftParams::default() };
//! let draft = namespace.draft(&mut request, &params);
//! assert_eq!(draft.tokens(), [2, 3, 4, 5]); // node 0 is the context's last token
//! assert_eq!(draft.parents(), [0, 0, 1, 2]);
//!
//! // The model, run over the draft, accepts 3 and 4 and adds 9: append them and go on.
//! namespace.accept(&mut request, &[3, 4, 9]);
//! namespace.finish(request)?;
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod budget;
mod corpus;
mod cost_curve;
mod departure;
mod draft_file;
mod draft_origin;
mod draft_params;
mod draft_tree;
mod error;
mod fingerprint;
mod growth;
mod history;
mod journal;
mod linear_cost;
mod namespace;
mod namespaces;
mod node_evidence;
mod pass_cost;
mod reliability;
mod request;
mod request_text;
mod runners_up;
mod shared;
mod spellings;
mod sync;
mod token;
mod trust;

pub use budget::Bid;
pub use corpus::{Corpus, CorpusBuilder, CorpusSummary, merge_corpora};
pub use cost_curve::{CostCurve, CostCurveError, CostPoint};
pub use draft_origin::DraftOrigin;
pub use draft_params::{DraftParams, DraftShape, DraftSource};
pub use draft_tree::DraftTree;
pub use error::{FileProblem, MIN_BYTES, TrieError};
pub use fingerprint::vocabulary_fingerprint;
pub use linear_cost::LinearCost;
pub use namespace::{Namespace, NamespaceStats};
pub use namespaces::Namespaces;
pub use pass_cost::{PassCost, PassLoad};
pub use reliability::{Reliability, ReliabilityBin};
pub use request::{Request, Sharing};
pub use request_text::RequestText;
pub use runners_up::RANKS;
pub use spellings::Spellings;
pub use token::TokenId;
