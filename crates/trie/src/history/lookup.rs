//! How a context's occurrences are found in a history, whatever it is kept in.

use std::cmp::Reverse;
use std::iter;

use crate::TokenId;

/// Lengths of the indexed sequences, ascending. A context is looked up by the longest first.
pub(crate) const ORDERS: [usize; 4] = [1, 2, 4, 8];

/// Tokens that are looked at for the return to a copy.
const REACH: u32 = 64;

/// As long a match a return is worth in addition to what matches behind it.
const BEFORE: u8 = 3;

/// Between texts: no token, and equal to none.
pub(crate) const BREAK: TokenId = TokenId::MAX;

/// Tokens from here on, [`BREAK`] apart, stand for questions: one is before the answer to it, and nowhere else. No vocabulary has
/// them.
const QUESTIONS: TokenId = 1 << 31;

/// Answers to a question that are looked at.
const ANSWERS: usize = 8;

/// Where there is no earlier end.
pub(super) const NONE: u32 = u32::MAX;

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
    pub(crate) const LONGEST: u8 = 64;

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

    /// Where the last token of `context` stands first behind the index `left`, or just before it, within [`REACH`]. Its length is
    /// that of the match and [`BEFORE`], for what matched before the copy was left there.
    fn find_returned(&self, context: &[TokenId], left: u32, history: u8) -> Option<Occurrence> {
        let last = *context.last()?;
        let ends = left.saturating_sub(1)..left.saturating_add(REACH);
        let text = ends.map(|end| (end, self.token(end)));
        let (end, _) = text.take_while(|&(_, token)| token != BREAK).find(|&(_, token)| token == last)?;
        let (next, token) = (end + 1, self.token(end + 1));
        let length = (self.match_length(context, end) as u8 + BEFORE).min(Occurrence::LONGEST);
        (token != BREAK).then_some(Occurrence { next, token, length, history })
    }

    /// Adds to `found` where the [`ANSWERS`] latest answers to a question go on behind `begun`, the last tokens of the `length` first
    /// ones of an answer to it. They count as the longest matches.
    fn find_answers(
        &self,
        question: TokenId,
        begun: &[TokenId],
        length: u32,
        history: u8,
        found: &mut Vec<Occurrence>,
    ) {
        let [Some(hash), ..] = tail_hashes(&[question]) else { return };
        for end in iter::successors(self.last(0, hash), |&end| self.before(0, end)).take(ANSWERS) {
            let Some(next) = end.checked_add(length).and_then(|end| end.checked_add(1)) else { return };
            let token = self.token(next);
            let is_same = || self.match_length(begun, next - 1) == begun.len();
            if token != BREAK && self.token(end) == question && is_same() {
                found.push(Occurrence { next, token, length: Occurrence::LONGEST, history });
            }
        }
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
pub(super) fn tail_hashes(context: &[TokenId]) -> [Option<u64>; ORDERS.len()] {
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

/// The token that stands for the question `prompt`: a hash of it, so that different ones may, rarely, share one.
pub(crate) fn question(prompt: &[TokenId]) -> TokenId {
    let hash = prompt.iter().fold(prompt.len() as u64, |hash, &token| {
        (hash.rotate_left(23) ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    QUESTIONS | ((hash >> 33) as TokenId).min(BREAK - QUESTIONS - 1)
}

/// Whether it stands for a question.
pub(crate) fn is_question(token: TokenId) -> bool {
    (QUESTIONS..BREAK).contains(&token)
}

/// The end of `tokens` that a context may reach back to: behind the last break, [`Occurrence::LONGEST`] tokens at most.
pub(crate) fn context_of(tokens: &[TokenId]) -> &[TokenId] {
    let tokens = &tokens[tokens.len().saturating_sub(Occurrence::LONGEST as usize)..];
    match tokens.iter().rposition(|&token| token == BREAK) {
        Some(at) => &tokens[at + 1..],
        None => tokens,
    }
}
