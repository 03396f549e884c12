//! OpenAI's wire formats: chat completions and text completions.

pub(super) mod chat;
mod chat_wire;
pub(super) mod completions;
mod completions_wire;
mod events;
mod fields;
mod logprobs;
mod reasoning;
mod structure;
mod tools;
mod usage;
