//! Every kernel on every instruction set against definitions in plain arithmetic, bit for bit; block formats against golden
//! values. They are no unit tests: those would have the compiler generate all kernels a second time.

#![allow(clippy::unwrap_used)] // a test's way to fail
#![allow(clippy::disallowed_methods)] // the platform's functions are good enough to compare with

mod attention;
mod blocks;
mod definition;
mod elementwise;
mod matrix;
mod quantize;
mod recurrence;
mod rope;
