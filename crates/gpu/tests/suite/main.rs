//! Operators on a GPU against the CPU's kernels, bit for bit. Where there is no GPU, not even one in software, they say so and pass.

#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used)] // a test's way to fail

mod best;
mod experts;
mod gpu;
mod heads;
mod input;
mod matrix;
mod noise;
mod rows;
mod streams;
