//! From what is asked to what is answered, without a wire format.
//!
//! Handlers in `api` translate a wire format into an [`AnswerRequest`]. [`Served::begin`](crate::served::Served::begin) makes
//! it ready for the engine: the template, tokens, the grammar, the index of drafts. [`Answers`] gives what comes of it as
//! [`AnswerEvent`]s, which a wire format's encoder writes.

mod answers;
mod dictated;
mod min_tokens;
mod prepare;
mod request;
mod shared_constraint;
mod usage;

pub(crate) use answers::{AnswerEvent, Answers, Delta, EndReason};
pub(crate) use request::{AnswerRequest, Drafting, FieldNames, Input, Prompt, Rule, Structure, Tools};
pub(crate) use usage::Usage;
