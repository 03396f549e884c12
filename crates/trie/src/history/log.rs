//! A history that grows: one writer appends, any number of others read meanwhile, without waiting.
//!
//! A token's text and links are written first, then the slots that lead to it, then the length. Whoever finds an end in a
//! slot therefore sees the token there and the links from it, and whoever reads the length sees all tokens before it. A token
//! may be found before the length covers it: it counts as not there yet. A table that is full is replaced by a larger copy;
//! who still reads the old one sees what was written until then.

use std::sync::Arc;

use super::column::Column;
use super::lookup::{BREAK, History, NONE, ORDERS, Occurrence, tail_hashes};
use super::slots::{self, Slots};
use crate::TokenId;
use crate::sync::{ArcSwap, AtomicU32, Guard, Ordering};

/// The most tokens of a log: below the ends that stand for none.
const MAX_TOKENS: u32 = u32::MAX - 1;

/// Texts and their index. Written through its one [`LogWriter`].
pub(crate) struct Log {
    tokens: Column<1>,
    /// For each token and order, where the sequence that it ends ended before.
    links: Column<{ ORDERS.len() }>,
    tables: ArcSwap<Tables>,
    len: AtomicU32,
}

/// Of each order.
type Tables = [Arc<Slots>; ORDERS.len()];

/// A log as it was at one moment, or later where that makes no difference: what drafts read.
pub(crate) struct LogView<'a> {
    log: &'a Log,
    tables: Guard<Arc<Tables>>,
    len: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            tokens: Column::default(),
            links: Column::default(),
            tables: ArcSwap::from_pointee(std::array::from_fn(|_| Arc::new(Slots::empty()))),
            len: AtomicU32::new(0),
        }
    }
}

/// The right to append to a log, which is new, and what that needs to know.
pub(crate) struct LogWriter {
    /// The end of the last text: as many tokens as the longest order.
    tail: Vec<TokenId>,
    /// Sequences in each table.
    taken: [usize; ORDERS.len()],
    /// The log's tables.
    tables: Tables,
    len: u32,
}

impl Default for LogWriter {
    fn default() -> Self {
        let tables = std::array::from_fn(|_| Arc::new(Slots::empty()));
        Self { tail: Vec::new(), taken: [0; ORDERS.len()], tables, len: 0 }
    }
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
        for (&taken, table) in self.taken.iter().zip(&self.tables) {
            let mut slots = table.len();
            while (taken + more) * 4 >= slots * 3 {
                copied = copied.max(slots);
                slots = slots::next_len(slots);
            }
            bytes += slots::bytes(slots);
        }
        bytes + slots::bytes(copied)
    }

    /// A log with the same texts as `log`, which is this writer's, and its writer.
    pub(crate) fn copy(&self, log: &Log) -> (Log, Self) {
        let tables: Tables = std::array::from_fn(|order| Arc::new(self.tables[order].copy()));
        let copy = Log {
            tokens: log.tokens.copy(),
            links: log.links.copy(),
            tables: ArcSwap::from_pointee(tables.clone()),
            len: AtomicU32::new(self.len),
        };
        (copy, Self { tail: self.tail.clone(), taken: self.taken, tables, len: self.len })
    }

    fn push(&mut self, log: &Log, token: TokenId, hashes: [Option<u64>; ORDERS.len()]) {
        let end = self.len;
        if end >= MAX_TOKENS {
            return;
        }
        let (mut links, mut places) = ([NONE; ORDERS.len()], [0; ORDERS.len()]);
        for (order, hash) in hashes.into_iter().enumerate() {
            let Some(hash) = hash else { continue };
            let (place, last) = self.tables[order].place(hash);
            (places[order], links[order]) = (place, last.unwrap_or(NONE));
            if last.is_none() {
                if self.tables[order].is_full(self.taken[order]) {
                    self.tables[order] = Arc::new(self.tables[order].grown());
                    log.tables.store(Arc::new(self.tables.clone()));
                    places[order] = self.tables[order].place(hash).0;
                }
                self.taken[order] += 1;
            }
        }
        log.tokens.set(end, [token]);
        log.links.set(end, links);
        for (order, hash) in hashes.into_iter().enumerate() {
            if let Some(hash) = hash {
                self.tables[order].put(places[order], hash, end);
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
        let tables: usize = self.tables.load().iter().map(|table| slots::bytes(table.len())).sum();
        let len = self.len();
        Column::<1>::bytes(len) + Column::<{ ORDERS.len() }>::bytes(len) + tables
    }

    /// The tokens in `range`.
    pub(crate) fn tokens(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = TokenId> + '_ {
        (range.start..range.end.min(self.len())).map(|index| self.tokens.get(index, 0))
    }

    /// As it is now.
    pub(crate) fn view(&self) -> LogView<'_> {
        // The length comes first: the tables know all tokens that it covers.
        let len = self.len();
        LogView { log: self, tables: self.tables.load(), len }
    }

    /// The table of an order, for a file.
    pub(super) fn table(&self, order: usize) -> Arc<Slots> {
        Arc::clone(&self.tables.load()[order])
    }

    /// Where the sequence of this order that ends at `end` ended before, or [`NONE`], for a file.
    pub(super) fn link(&self, order: usize, end: u32) -> u32 {
        self.links.get(end, order)
    }
}

impl History for LogView<'_> {
    fn token(&self, index: u32) -> TokenId {
        if index < self.len { self.log.tokens.get(index, 0) } else { BREAK }
    }

    fn last(&self, order: usize, hash: u64) -> Option<u32> {
        // What came after the view ends where nothing is yet: who finds it goes on to what was there before.
        self.tables[order].place(hash).1.filter(|&end| end < MAX_TOKENS)
    }

    fn before(&self, order: usize, end: u32) -> Option<u32> {
        Some(self.log.links.get(end, order)).filter(|&before| before < end)
    }

    fn match_length(&self, context: &[TokenId], end: u32) -> usize {
        if end >= self.len {
            return 0;
        }
        let context = &context[context.len().saturating_sub(Occurrence::LONGEST as usize)..];
        let (mut end, mut matched) = (end, 0);
        loop {
            // As far as tokens stand side by side.
            let run = self.log.tokens.run_to(end);
            let pairs = run.iter().rev().zip(context[..context.len() - matched].iter().rev());
            let equal = pairs.take_while(|([a], b)| {
                let a = a.load(Ordering::Relaxed);
                a == **b && a != BREAK
            });
            let equal = equal.count();
            matched += equal;
            if equal < run.len() || matched == context.len() || run.len() as u32 > end {
                return matched;
            }
            end -= run.len() as u32;
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::history::FindLimits;

    /// Every token that follows `context` before `len`, the latest first.
    fn followers(text: &[TokenId], context: &[TokenId], len: usize) -> Vec<TokenId> {
        let windows = text[..len].windows(context.len() + 1).rev();
        windows.filter_map(|window| window.strip_prefix(context)).map(|rest| rest[0]).collect()
    }

    /// Whoever looks for `context` while the last tokens of `text` are added to its first `before` finds all that the text has
    /// up to some token, and nothing else.
    fn check(text: &'static [TokenId], before: usize, context: &'static [TokenId]) {
        loom::model(move || {
            let (log, mut writer) = (Arc::new(Log::default()), LogWriter::default());
            writer.extend(&log, &text[..before]);
            let reader = {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let mut found = Vec::new();
                    let view = log.view();
                    view.find(context, FindLimits { most: usize::MAX, enough: usize::MAX }, 0, &mut found);
                    found.sort_unstable_by_key(|occurrence| occurrence.rank());
                    let tokens: Vec<_> = found.iter().map(|here| here.token).collect();
                    assert_eq!(tokens, followers(text, context, view.len as usize));
                })
            };
            writer.extend(&log, &text[before..]);
            reader.join().unwrap();
            assert_eq!(log.len() as usize, text.len());
        });
    }

    #[test]
    fn what_is_found_is_whole_while_tokens_are_added() {
        check(&[1, 2, 1, 3, 1, 2], 3, &[1]);
    }

    #[test]
    fn what_is_found_is_whole_while_a_table_and_the_lists_grow() {
        // The fourth different token is one too many for the first table, the fifth token for the first two chunks.
        check(&[1, 2, 3, 1, 4, 1, 2], 4, &[1]);
    }

    #[test]
    fn longer_sequences_are_found_whole_too() {
        check(&[1, 2, 5, 1, 2, 6, 7], 4, &[1, 2]);
    }
}
