//! Histories: the texts that were seen, one after another, and where each short sequence of their tokens occurred.
//!
//! Tokens stand in a row. For each order g of [`ORDERS`], a table holds where the last occurrence of each sequence of g tokens
//! ends, and every occurrence knows the one before it. So a context's occurrences are found by hashing its tail, the
//! latest first; how far one matches is found by comparing backwards, without a limit to its length; and what followed it
//! is what stands next. Insertion takes one entry per order and token, O(1) amortised; nothing is ever moved.
//!
//! A [`Log`] grows, and is read while it does; a [`Shard`] is the same in a file.

mod column;
mod log;
mod shard;
mod slots;

use std::cmp::Reverse;
use std::iter;

pub(crate) use log::{Log, LogView, LogWriter};
pub(crate) use shard::{Shard, ShardId, write as write_shard};

use crate::TokenId;

/// Lengths of the indexed sequences, ascending. A context is looked up by the longest first.
pub(crate) const ORDERS: [usize; 4] = [1, 2, 4, 8];

/// Between texts: no token, and equal to none.
pub(crate) const BREAK: TokenId = TokenId::MAX;

/// Where there is no earlier end.
const NONE: u32 = u32::MAX;

/// A place where a context occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occurrence {
    /// Index of the token that followed.
    pub(crate) next: u32,
    /// That token.
    pub(crate) token: TokenId,
    /// Tokens of the context that match, at least 1; at most [`Occurrence::LONGEST`], which stands for more.
    pub(crate) length: u8,
    /// The history, as whoever asked numbers them.
    pub(crate) history: u8,
}

impl Occurrence {
    /// Longer matches count as this long.
    pub(crate) const LONGEST: u8 = 32;

    /// The longest first, then by history, then the latest.
    pub(crate) fn rank(self) -> impl Ord {
        (Reverse(self.length), self.history, Reverse(self.next))
    }
}

/// Texts and the index of their sequences. Where an index is out of range, there is nothing: a history from a damaged file is
/// as safe as any.
pub(crate) trait History: Send + Sync {
    /// The token at `index`; [`BREAK`] between texts and behind the last one.
    fn token(&self, index: u32) -> TokenId;

    /// Where the sequence of [`ORDERS`]`[order]` tokens with this hash ended last.
    fn last(&self, order: usize, hash: u64) -> Option<u32>;

    /// Where the sequence of this order that ends at `end` ended before: somewhere further up.
    fn before(&self, order: usize, end: u32) -> Option<u32>;

    /// The occurrence of one token more, if anything followed that.
    fn on(&self, occurrence: Occurrence) -> Option<Occurrence> {
        let (next, length) = (occurrence.next + 1, (occurrence.length + 1).min(Occurrence::LONGEST));
        let token = self.token(next);
        (token != BREAK).then_some(Occurrence { next, token, length, ..occurrence })
    }

    /// Adds to `found` where the end of `context` occurred and something followed: for each order the `most` latest ones,
    /// and none of an order whose sequences are all in longer ones that were found `enough` times. They say that they are of
    /// history `history`.
    fn find(&self, context: &[TokenId], limits: FindLimits, history: u8, found: &mut Vec<Occurrence>) {
        let start = found.len();
        // All at once: what is not in the cache is waited for together.
        let hashes = tail_hashes(context);
        let lasts: [Option<u32>; ORDERS.len()] =
            std::array::from_fn(|order| hashes[order].and_then(|hash| self.last(order, hash)));
        let mut below = Occurrence::LONGEST as usize + 1;
        for ((order, last), length_of_order) in lasts.into_iter().enumerate().zip(ORDERS).rev() {
            let ends = iter::successors(last, |&end| self.before(order, end));
            for end in ends.take(limits.most) {
                let (next, token) = (end + 1, self.token(end + 1));
                // Those that match longer were found above.
                let length = self.match_length(&context[context.len().saturating_sub(below)..], end);
                if (length_of_order..below).contains(&length) && token != BREAK {
                    found.push(Occurrence { next, token, length: length as u8, history });
                }
            }
            if found.len() - start >= limits.enough {
                break;
            }
            below = length_of_order;
        }
    }

    /// As [`History::find`], for a context whose last token differs from that of the text: where the others occurred, at
    /// least two of them, and what followed the token in the last one's place.
    fn find_resumed(
        &self,
        context: &[TokenId],
        limits: FindLimits,
        history: u8,
        found: &mut Vec<Occurrence>,
    ) {
        let Some((&last, before)) = context.split_last() else { return };
        let start = found.len();
        self.find(before, limits, history, found);
        let mut kept = start;
        for index in start..found.len() {
            let Occurrence { token, length, .. } = found[index];
            if length >= 2
                && token != last
                && let Some(on) = self.on(found[index])
            {
                found[kept] = Occurrence { length, ..on };
                kept += 1;
            }
        }
        found.truncate(kept);
    }

    /// How many tokens up to the one at `end` equal the end of `context`, [`Occurrence::LONGEST`] at most.
    fn match_length(&self, context: &[TokenId], end: u32) -> usize {
        let tokens = (0..=end).rev().map(|index| self.token(index));
        let pairs = tokens.zip(context.iter().rev()).take(Occurrence::LONGEST as usize);
        pairs.take_while(|(a, b)| a == *b && *a != BREAK).count()
    }
}

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FindLimits {
    /// Ends of each order, the latest.
    pub(crate) most: usize,
    /// So many occurrences of longer sequences make shorter ones needless.
    pub(crate) enough: usize,
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

/// The end of `tokens` that a context may reach back to: behind the last break, [`Occurrence::LONGEST`] tokens at most.
pub(crate) fn context_of(tokens: &[TokenId]) -> &[TokenId] {
    let tokens = &tokens[tokens.len().saturating_sub(Occurrence::LONGEST as usize)..];
    match tokens.iter().rposition(|&token| token == BREAK) {
        Some(at) => &tokens[at + 1..],
        None => tokens,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const ALL: FindLimits = FindLimits { most: usize::MAX, enough: usize::MAX };

    /// Every place of `texts` where at least the last token of `context` occurred and something followed: by looking.
    fn naive(texts: &[Vec<TokenId>], context: &[TokenId]) -> Vec<Occurrence> {
        let mut found = Vec::new();
        let mut start = 0;
        for text in texts.iter().filter(|text| !text.is_empty()) {
            for end in 0..text.len() - 1 {
                let pairs = text[..=end].iter().rev().zip(context.iter().rev());
                let length = pairs.take_while(|(a, b)| a == b).count().min(32) as u8;
                if length > 0 {
                    let next = (start + end + 1) as u32;
                    found.push(Occurrence { next, token: text[end + 1], length, history: 3 });
                }
            }
            start += text.len() + 1;
        }
        found
    }

    pub(crate) fn log_of<T: AsRef<[TokenId]>>(texts: &[T]) -> Log {
        let (log, mut writer) = (Log::default(), LogWriter::default());
        for text in texts {
            writer.begin_text(&log);
            writer.extend(&log, text.as_ref());
        }
        log
    }

    proptest! {
        #[test]
        fn every_occurrence_is_found_with_its_length_in_a_log_and_in_a_shard(
            texts in prop::collection::vec(prop::collection::vec(0u32..4, 0..60), 1..6),
            context in prop::collection::vec(0u32..4, 1..40),
        ) {
            let log = log_of(&texts);
            let mut file = tempfile::tempfile().unwrap();
            shard::write(&log, ShardId::default(), [&[], &[]], &mut file).unwrap();
            let shard = Shard::of_file(&file, None).unwrap();
            for history in [&log.view() as &dyn History, &shard] {
                let mut found = Vec::new();
                history.find(&context, ALL, 3, &mut found);
                found.sort_by_key(|occurrence| occurrence.next);
                prop_assert_eq!(found, naive(&texts, &context));
            }
        }
    }

    #[test]
    fn the_latest_occurrences_come_first() {
        let log = log_of(&[[7, 1, 7, 2, 7, 3, 7]]);
        let mut found = Vec::new();
        log.view().find(&[7], FindLimits { most: 2, enough: 9 }, 0, &mut found);
        let next: Vec<_> = found.iter().map(|occurrence| occurrence.token).collect();
        // The last 7 is followed by nothing yet, and counts as one of the two.
        assert_eq!(next, [3]);
    }

    #[test]
    fn where_long_sequences_are_enough_short_ones_are_not_looked_at() {
        let log = log_of(&[[1, 2, 3, 9, 1, 2, 4, 9, 7, 2, 5]]);
        let find = |enough| {
            let mut found = Vec::new();
            log.view().find(&[1, 2], FindLimits { most: 9, enough }, 0, &mut found);
            found.iter().map(|occurrence| occurrence.token).collect::<Vec<_>>()
        };
        assert_eq!(find(2), [4, 3]);
        assert_eq!(find(3), [4, 3, 5]);
    }

    #[test]
    fn a_context_does_not_reach_over_a_break() {
        assert_eq!(context_of(&[1, 2, BREAK, 3, 4]), [3, 4]);
        assert_eq!(context_of(&[1, BREAK]), [0; 0]);
        let long: Vec<TokenId> = (0..100).collect();
        assert_eq!(context_of(&long), &long[68..]);
    }
}
