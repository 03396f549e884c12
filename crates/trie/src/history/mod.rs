//! Histories: the texts that were seen, one after another, and where each short sequence of their tokens occurred.
//!
//! Tokens stand in a row. For each order g of [`ORDERS`], a table holds where the last occurrence of each sequence of g tokens
//! ends, and every occurrence knows the one before it. So a context's occurrences are found by hashing its tail, the
//! latest first; how far one matches is found by comparing backwards, without a limit to its length; and what followed it
//! is what stands next. Insertion takes one entry per order and token, O(1) amortised; nothing is ever moved.
//!
//! A [`Log`] grows, and is read while it does; a [`Shard`] is the same in a file.

mod column;
mod header;
mod log;
mod lookup;
mod own_bytes;
mod shard;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use header::{Header, ShardId};
pub(crate) use log::{Log, LogView, LogWriter};
pub(crate) use lookup::{FindLimits, History, Occurrence, context_of, is_question, question};
pub(crate) use shard::{Shard, write as write_shard};
