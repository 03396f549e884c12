//! Anthropic's wire format: messages.

mod blocks;
pub(super) mod errors;
pub(super) mod messages;
mod wire;
