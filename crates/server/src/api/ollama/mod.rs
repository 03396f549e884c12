//! Ollama's API: answers as lines of JSON, and what its clients ask a server about its models.

pub(super) mod chat;
mod conversation;
mod errors;
pub(super) mod generate;
pub(super) mod models;
mod options;
pub(super) mod refused;
mod wire;
