//! Tests of the model crate, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail

mod config_forms;
mod gguf;
mod golden;
#[cfg(feature = "gpu")]
mod gpu;
mod kv_pages;
mod losslessness;
mod malformed_checkpoint;
mod malformed_gguf;
mod recurrent_states;
mod tokenizer_ids;
mod tokenizer_memory;
