//! Tests of the constraints on answers, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail

mod common;
mod constraint;
mod gbnf;
mod json;
mod limits;
mod tools;
