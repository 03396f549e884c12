//! Tests of the decode loop, its losslessness and its scheduler, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail
#![allow(unreachable_pub)] // modules of one binary share what they have

mod common;
mod engine;
mod fairness;
mod losslessness;
mod scheduler;
