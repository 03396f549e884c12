//! Tests of the program, as a user runs it, in one binary: each more costs a link of everything below it.

#![allow(clippy::unwrap_used)] // a test's way to fail

mod bench;
mod calibrate;
mod chat;
mod checkpoint;
mod devices;
mod generate;
mod inspect;
mod logits;
mod program;
mod pull;
mod render;
mod replay;
mod stand_in;
mod tiny;
mod tokenize;
mod trie;
mod verify;
