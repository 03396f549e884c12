//! Tests of the server over HTTP, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail
#![allow(unreachable_pub)] // modules of one binary share what they have

mod common;
mod exactness;
mod fairness;
mod panics;
mod server;
mod shutdown;
#[cfg(feature = "otel")]
mod traces;
