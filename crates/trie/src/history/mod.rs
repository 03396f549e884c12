//! A history: the texts that were seen, one after another, and where each short sequence of their tokens occurred.
//!
//! Tokens go to a log. For each order g of [`ORDERS`], a table holds where the last occurrence of each sequence of g tokens
//! ends, and every occurrence knows the one before it. So a context's occurrences are found by hashing its tail, the
//! latest first; how far one matches is found by comparing backwards, without a limit to its length; and what followed it
//! is what the log says next. Insertion takes one entry per order and token, O(1) amortised; nothing is ever moved.

mod gram_index;

use std::cmp::Reverse;
use std::iter;

use gram_index::GramIndex;

use crate::TokenId;

/// Lengths of the indexed sequences, ascending. A context is looked up by the longest first.
pub(crate) const ORDERS: [usize; 4] = [1, 2, 4, 8];

/// Between the texts of a log: no token, and equal to none.
pub(crate) const BREAK: TokenId = TokenId::MAX;

/// A place where a context occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occurrence {
    /// Index in the log of the token that followed.
    pub(crate) next: u32,
    /// Tokens of the context that match, at least 1; at most [`Occurrence::LONGEST`], which stands for more.
    pub(crate) length: u8,
}

impl Occurrence {
    /// Longer matches count as this long.
    pub(crate) const LONGEST: u8 = 32;

    /// The occurrence of one token more: the one that followed.
    pub(crate) fn on(self) -> Self {
        Self { next: self.next + 1, length: (self.length + 1).min(Self::LONGEST) }
    }
}

/// Texts and the index of their sequences.
pub(crate) struct History {
    tokens: Vec<TokenId>,
    /// Tokens since the last break.
    text_len: usize,
    indexes: [GramIndex; ORDERS.len()],
}

impl Default for History {
    fn default() -> Self {
        Self { tokens: Vec::new(), text_len: 0, indexes: ORDERS.map(|_| GramIndex::default()) }
    }
}

impl History {
    /// Appends tokens to the last text.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        for &token in tokens {
            self.tokens.push(token);
            self.text_len += 1;
            let hashes = tail_hashes(&self.tokens[self.tokens.len() - self.text_len..]);
            for (index, hash) in self.indexes.iter_mut().zip(hashes) {
                index.push(hash);
            }
        }
    }

    /// Begins a new text, which nothing of the last one runs into.
    pub(crate) fn begin_text(&mut self) {
        if self.text_len > 0 {
            self.tokens.push(BREAK);
            self.text_len = 0;
            for index in &mut self.indexes {
                index.push(None);
            }
        }
    }

    /// Tokens of the log, [`BREAK`] between texts.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The token that followed an occurrence, if any has yet.
    pub(crate) fn next(&self, occurrence: Occurrence) -> Option<TokenId> {
        self.tokens.get(occurrence.next as usize).copied().filter(|&token| token != BREAK)
    }

    /// Adds to `found` where the end of `context` occurred and something followed: for each order, the `most` latest ones. The longest match first, then the latest.
    pub(crate) fn find(&self, context: &[TokenId], most: usize, found: &mut Vec<Occurrence>) {
        let start = found.len();
        let hashes = tail_hashes(context);
        let mut below = usize::MAX;
        for ((index, hash), order) in self.indexes.iter().zip(hashes).zip(ORDERS).rev() {
            let Some(hash) = hash else { continue };
            let ends = iter::successors(index.last(hash), |&end| index.before(end));
            for end in ends.take(most) {
                let length = self.match_length(context, end as usize);
                let occurrence = Occurrence { next: end + 1, length: length as u8 };
                if (order..below).contains(&length) && self.next(occurrence).is_some() {
                    found.push(occurrence);
                }
            }
            below = order;
        }
        found[start..].sort_unstable_by_key(|occurrence| Reverse((occurrence.length, occurrence.next)));
    }

    /// As [`History::find`], for a context whose last token differs from that of the text: where the others occurred, at
    /// least two of them, and what followed the token in the last one's place.
    pub(crate) fn find_resumed(&self, context: &[TokenId], most: usize, found: &mut Vec<Occurrence>) {
        let Some((&last, before)) = context.split_last() else { return };
        let start = found.len();
        self.find(before, most, found);
        let mut kept = start;
        for index in start..found.len() {
            let Occurrence { next, length } = found[index];
            let here = Occurrence { next: next + 1, length };
            if length >= 2 && self.tokens[next as usize] != last && self.next(here).is_some() {
                found[kept] = here;
                kept += 1;
            }
        }
        found.truncate(kept);
    }

    /// How many tokens up to the one at `end` equal the end of `context`.
    fn match_length(&self, context: &[TokenId], end: usize) -> usize {
        let pairs = self.tokens[..=end].iter().rev().zip(context.iter().rev());
        pairs.take(Occurrence::LONGEST as usize).take_while(|(a, b)| a == b).count()
    }

    /// Allocated bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.tokens.capacity() * size_of::<TokenId>()
            + self.indexes.iter().map(GramIndex::bytes).sum::<usize>()
    }
}

/// Hashes of the last 1, 2, 4 and 8 tokens, as many as there are.
fn tail_hashes(context: &[TokenId]) -> [Option<u64>; ORDERS.len()] {
    let mut hashes = [None; ORDERS.len()];
    let mut hash = 0u64;
    let mut length = 0;
    for (slot, order) in hashes.iter_mut().zip(ORDERS) {
        if context.len() < order {
            break;
        }
        while length < order {
            length += 1;
            // Fibonacci hashing of each token, folded: every token moves the high bits, which choose the slot.
            let token = u64::from(context[context.len() - length]) + 1;
            hash = (hash.rotate_left(23) ^ token).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        *slot = Some(hash);
    }
    hashes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every place of `texts` where at least the last token of `context` occurred and something followed: by looking.
    fn naive(texts: &[Vec<TokenId>], context: &[TokenId]) -> Vec<Occurrence> {
        let mut found = Vec::new();
        let mut start = 0;
        for text in texts.iter().filter(|text| !text.is_empty()) {
            for end in 0..text.len() - 1 {
                let pairs = text[..=end].iter().rev().zip(context.iter().rev());
                let length = pairs.take_while(|(a, b)| a == b).count().min(32) as u8;
                if length > 0 {
                    found.push(Occurrence { next: (start + end + 1) as u32, length });
                }
            }
            start += text.len() + 1;
        }
        found
    }

    proptest! {
        #[test]
        fn every_occurrence_is_found_with_its_length(
            texts in prop::collection::vec(prop::collection::vec(0u32..4, 0..60), 1..6),
            context in prop::collection::vec(0u32..4, 1..40),
        ) {
            let mut history = History::default();
            for text in &texts {
                history.begin_text();
                history.extend(text);
            }
            let mut found = Vec::new();
            history.find(&context, usize::MAX, &mut found);
            found.sort_by_key(|occurrence| occurrence.next);
            prop_assert_eq!(found, naive(&texts, &context));
        }
    }

    #[test]
    fn the_latest_occurrences_come_first() {
        let mut history = History::default();
        history.extend(&[7, 1, 7, 2, 7, 3, 7]);
        let mut found = Vec::new();
        history.find(&[7], 2, &mut found);
        let next: Vec<_> = found.iter().map(|&occurrence| history.next(occurrence)).collect();
        // The last 7 is followed by nothing yet, and counts as one of the two.
        assert_eq!(next, [Some(3)]);
    }
}
