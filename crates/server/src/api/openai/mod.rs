//! OpenAI's wire formats: chat completions and text completions.

pub(super) mod chat;
mod chat_wire;
pub(super) mod completions;
mod completions_wire;
mod events;
pub(super) mod fields;
pub(super) mod logprobs;
pub(super) mod structure;
pub(super) mod tools;
mod usage;
