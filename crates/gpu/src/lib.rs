//! Operators of a transformer on GPUs, with the bits of the CPU's kernels.
//!
//! **Contract.** Each operator gives, value by value, the bits of its counterpart in `lookahead-kernels`: sums of products are exact
//! integers, which are free of any order, and float arithmetic keeps the one order that is defined there. Where a device rounds
//! otherwise than the CPU, the probe (`probe.rs`) finds it when the device is opened, and what can be made exact in software is; where that
//! fails the device is [`Exactness::SelfConsistent`]: its results are its own, but depend on nothing but the tokens.
//!
//! `unsafe` is confined to `gpu` (shader modules that are passed on to the driver) and `float_modes` (what Vulkan says of a device).

#![cfg(feature = "gpu")]

mod adapters;
mod arithmetic;
mod attention;
mod best;
mod elementwise;
mod error;
mod experts;
mod float_modes;
mod gpu;
mod heads;
mod kv_pages;
mod matrix;
mod norm;
mod pass;
mod probe;
mod rope;
mod rows;
mod spirv;
mod streams;

pub use adapters::{AdapterListing, adapters, choose};
pub use arithmetic::{Arithmetic, Exactness, Halves, MultiplyAdd, Quotients};
pub use attention::{Attention, AttentionPlaces, SeenRows};
pub use best::{Best, MOST_RANKS};
pub use elementwise::{Elementwise, elementwise};
pub use error::GpuError;
pub use experts::{Gathered, Scattered, add_rows, gather};
pub use gpu::Gpu;
pub use heads::{HeadParts, copy_heads};
pub use kv_pages::{KvMemory, StoredRows, place};
pub use matrix::{Epilogue, GpuMatrix};
pub use norm::{Added, NormOf, keep_outliers, normalise, normalise_first};
pub use pass::{Memory, Pass};
pub use rope::{RotatedHeads, rotate};
pub use rows::{Codes, Input, Rows};
pub use streams::{Shares, add_shares, match_magnitude, scale_columns};
