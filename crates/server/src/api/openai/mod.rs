//! OpenAI's wire formats: chat completions, text completions and responses.

pub(super) mod chat;
mod chat_wire;
pub(super) mod completions;
mod completions_wire;
mod events;
pub(super) mod fields;
pub(super) mod logprobs;
mod prompt_logprobs;
mod reasoning;
pub(super) mod responses;
pub(super) mod structure;
pub(super) mod usage;
