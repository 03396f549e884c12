//! Tests of the server over HTTP, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used, unreachable_pub)] // tests, and what they share

mod admission;
mod browsers;
mod common;
mod conversations;
mod drafts;
mod exactness;
mod fairness;
mod fields;
mod habits;
mod hostile;
mod llama_cpp;
mod messages;
mod models;
mod ollama;
mod panics;
mod responses;
mod server;
mod shutdown;
mod thinking;
#[cfg(feature = "otel")]
mod traces;
mod vllm;
mod wires;
