//! Tests of the draft engine, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail

mod files;
mod namespace;
mod persistence;
