//! Structured outputs: answers that follow a JSON schema, a regular expression, a grammar, or the syntax of tool calls.
//!
//! [`Grammars`] is made once a model. It turns what a client asks for into a [`Constraint`], which the engine asks which
//! tokens may come next. The grammars themselves are those of `llguidance`: derivatives of regular expressions below an
//! Earley parser, run over a trie of the vocabulary.
//!
//! - **Masks.** Where text is forced, its one spelling by the model's own tokenizer is allowed and no other, so models see
//!   the tokens that they were trained on, and [`Scout::forced`] drafts them without a guess. Control tokens, such as
//!   the end of a turn, are no text: no schema, pattern or text of a grammar allows one. Tokens that end an answer are
//!   allowed where the grammar may stop.
//! - **JSON** has one layout, that of Python's `json.dumps`: `{"a": 1, "b": [2, 3]}`. Small models loop in whitespace
//!   where they may, and one layout forces everything between two values.
//! - **Purity.** What is allowed depends on the completion alone: the parser that masks come from takes the tokens of the
//!   answer, one after the other, and never sees a draft. Drafts are looked at by a parser of their own.
//! - **Limits.** Grammars come from clients. llguidance counts its work and gives up; what it does not count, such as
//!   patterns that multiply when they are combined, is refused beforehand. The worst that is accepted compiles in half a
//!   second and takes some tens of megabytes. An answer that meets a limit on its way fails, always at the same token.
//!
//! A typical schema compiles in 1 to 2 ms; a mask over 49,152 tokens takes 13 µs on average, 0.13 ms at worst in a hundred.
//!
//! ```
//! use std::sync::Arc;
//!
//! use lookahead_engine::Constraint;
//! use lookahead_grammar::{Follower, GrammarError, Grammars};
//! use lookahead_model::{TokenId, tokenizer::Tokenizer};
//!
//! /// Any text in the language `yes|no`, and the answer ends.
//! fn yes_or_no(tokenizer: &Arc<Tokenizer>) -> Result<Follower, GrammarError> {
//!     let grammars = Grammars::new(tokenizer, tokenizer.vocabulary_size())?;
//!     let mut constraint = grammars.regex("yes|no")?;
//!     let completion: &[TokenId] = &[];
//!     let allowed = constraint.allowed(completion).expect("two words meet no limit");
//!     assert_eq!(allowed.len(), tokenizer.vocabulary_size().div_ceil(32));
//!     Ok(constraint)
//! }
//! ```

mod arguments;
mod call_check;
mod channels;
mod compiled;
mod endings;
mod error;
mod follower;
mod gbnf;
mod grammars;
mod json;
mod rules;
mod schema;
mod scout;
mod thinking;
mod tools;
mod validation;
mod vocabulary;
mod walker;

pub use call_check::{CallCheck, CallFinding};
pub use error::GrammarError;
pub use follower::Follower;
pub use grammars::{GrammarLimits, Grammars, ToolConstraint};
pub use lookahead_engine::{Constraint, ConstraintError, Scout};
pub use thinking::{ThinkFirst, ThinkingTokens};
pub use tools::{ToolChoice, ToolSpec};
