//! Tests of the decode loop, its losslessness and its scheduler, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used, unreachable_pub)] // tests, and what they share

mod common;
mod constraints;
mod engine;
mod fairness;
mod losslessness;
mod scheduler;
