//! A history that grows: one writer appends, any number of others read meanwhile, without waiting.
//!
//! A token's text and links are written first, then the slots that lead to it, then the length. Whoever finds an end in a
//! slot therefore sees the token there and the links from it, and whoever reads the length sees all tokens before it. A token
//! may be found before the length covers it: it counts as not there yet. A table that is full is replaced by a larger copy;
//! who still reads the old one sees what was written until then.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::column::Column;
use super::slots::{self, Slots};
use super::{BREAK, History, NONE, ORDERS, tail_hashes};
use crate::TokenId;
use crate::sync::{AtomicU32, Ordering};

/// The most tokens of a log: below the ends that stand for none.
const MAX_TOKENS: u32 = u32::MAX - 1;

/// Texts and their index. Written through its one [`LogWriter`].
pub(crate) struct Log {
    tokens: Column<1>,
    /// For each token and order, where the sequence that it ends ended before.
    links: Column<{ ORDERS.len() }>,
    tables: [ArcSwap<Slots>; ORDERS.len()],
    len: AtomicU32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            tokens: Column::default(),
            links: Column::default(),
            tables: std::array::from_fn(|_| ArcSwap::from_pointee(Slots::empty())),
            len: AtomicU32::new(0),
        }
    }
}

/// The right to append to a log, and what that needs to know.
#[derive(Default)]
pub(crate) struct LogWriter {
    /// The end of the last text: as many tokens as the longest order.
    tail: Vec<TokenId>,
    /// Sequences in each table.
    taken: [usize; ORDERS.len()],
    /// Slots of each table.
    slots: [usize; ORDERS.len()],
    len: u32,
}

impl LogWriter {
    /// Appends tokens to the last text of `log`, which is this writer's. Beyond 2 to the power of 32 tokens, nothing.
    pub(crate) fn extend(&mut self, log: &Log, tokens: &[TokenId]) {
        const LONGEST: usize = ORDERS[ORDERS.len() - 1];
        for &token in tokens {
            if self.tail.len() == 8 * LONGEST {
                self.tail.drain(..7 * LONGEST);
            }
            self.tail.push(token);
            let hashes = tail_hashes(&self.tail[self.tail.len().saturating_sub(LONGEST)..]);
            self.push(log, token, hashes);
        }
    }

    /// Begins a new text, which nothing of the last one runs into.
    pub(crate) fn begin_text(&mut self, log: &Log) {
        if !self.tail.is_empty() {
            self.tail.clear();
            self.push(log, BREAK, [None; ORDERS.len()]);
        }
    }

    /// Bytes that the log takes after `more` more tokens, at most; those of a table's copy included.
    pub(crate) fn bytes_after(&self, more: usize) -> usize {
        let len = (self.len as usize + more + 1).min(MAX_TOKENS as usize) as u32;
        let mut bytes = Column::<1>::bytes(len) + Column::<{ ORDERS.len() }>::bytes(len);
        let mut copied = 0;
        for (&taken, &now) in self.taken.iter().zip(&self.slots) {
            let mut slots = now;
            while (taken + more) * 4 >= slots * 3 {
                copied = copied.max(slots);
                slots = slots::next_len(slots);
            }
            bytes += slots::bytes(slots);
        }
        bytes + slots::bytes(copied)
    }

    fn push(&mut self, log: &Log, token: TokenId, hashes: [Option<u64>; ORDERS.len()]) {
        let end = self.len;
        if end >= MAX_TOKENS {
            return;
        }
        let mut links = [NONE; ORDERS.len()];
        for order in 0..ORDERS.len() {
            let Some(hash) = hashes[order] else { continue };
            let table = log.tables[order].load();
            links[order] = table.last(hash).unwrap_or(NONE);
            if links[order] == NONE {
                if table.is_full(self.taken[order]) {
                    let grown = table.grown();
                    self.slots[order] = grown.len();
                    log.tables[order].store(Arc::new(grown));
                }
                self.taken[order] += 1;
            }
        }
        log.tokens.set(end, [token]);
        log.links.set(end, links);
        for (table, hash) in log.tables.iter().zip(hashes) {
            if let Some(hash) = hash {
                table.load().put(hash, end);
            }
        }
        self.len = end + 1;
        log.len.store(self.len, Ordering::Release);
    }
}

impl Log {
    /// Tokens, breaks included.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Allocated bytes, now.
    pub(crate) fn bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| slots::bytes(table.load().len())).sum();
        let len = self.len();
        Column::<1>::bytes(len) + Column::<{ ORDERS.len() }>::bytes(len) + tables
    }

    /// The tokens in `range`.
    pub(crate) fn tokens(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = TokenId> + '_ {
        (range.start..range.end.min(self.len())).map(|index| self.tokens.get(index, 0))
    }

    /// The table of an order, for a file.
    pub(super) fn table(&self, order: usize) -> Arc<Slots> {
        self.tables[order].load_full()
    }

    /// Where the sequence of this order that ends at `end` ended before, or [`NONE`], for a file.
    pub(super) fn link(&self, order: usize, end: u32) -> u32 {
        self.links.get(end, order)
    }
}

impl History for Log {
    fn token(&self, index: u32) -> TokenId {
        if index < self.len() { self.tokens.get(index, 0) } else { BREAK }
    }

    fn last(&self, order: usize, hash: u64) -> Option<u32> {
        self.tables[order].load().last(hash).filter(|&end| end < MAX_TOKENS)
    }

    fn before(&self, order: usize, end: u32) -> Option<u32> {
        Some(self.links.get(end, order)).filter(|&before| before < end)
    }
}
