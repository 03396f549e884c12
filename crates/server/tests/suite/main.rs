//! Tests of the server over HTTP, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail

mod browsers;
mod common;
mod drafts;
mod exactness;
mod server;
#[cfg(feature = "otel")]
mod traces;
