//! Tests of the server over HTTP, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used, unreachable_pub)] // tests, and what they share

mod admission;
mod browsers;
mod common;
mod drafts;
mod exactness;
mod fairness;
mod habits;
mod llama_cpp;
mod models;
mod ollama;
mod panics;
mod server;
mod shutdown;
#[cfg(feature = "otel")]
mod traces;
mod vllm;
