//! The loop of every BPE: of all neighbours that may be merged, merge the best pair, of equally good ones the
//! leftmost, until none is left. What may be merged, and what is best, the vocabulary says.

use std::{cmp::Ordering, collections::BinaryHeap, iter};

use super::pair_queues::PairQueues;

/// Symbols of a text from which on its pairs wait in [`PairQueues`]: of a shorter one, a heap is faster.
const LONG: usize = 1 << 10;

/// Merges symbols `S` by priorities `P`, the greatest first. Keeps its memory from text to text.
#[derive(Debug)]
pub(super) struct Merger<S, P> {
    symbols: Vec<Symbol<S>>,
    /// The pairs of a short text.
    pairs: BinaryHeap<Pair<S, P>>,
    /// The pairs of a long one.
    queues: PairQueues<P, Pair<S, P>>,
    /// Symbols from which on a text is long.
    long: usize,
}

/// A symbol and its neighbours, by index.
#[derive(Clone, Copy, Debug)]
struct Symbol<S> {
    value: S,
    previous: usize,
    next: usize,
}

/// The neighbour of a symbol that has become part of another.
const GONE: usize = usize::MAX;

/// Two neighbours that may be merged.
#[derive(Clone, Copy, Debug)]
struct Pair<S, P> {
    priority: P,
    left: usize,
    right: usize,
    /// What followed the right one when the pair was found. Symbols only grow, and only to the right: the pair
    /// is stale if `left` or `right` has another neighbour now.
    after: usize,
    merged: S,
}

impl<S, P: Ord> Ord for Pair<S, P> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority.cmp(&other.priority).then(other.left.cmp(&self.left))
    }
}

impl<S, P: Ord> PartialOrd for Pair<S, P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S, P: Ord> PartialEq for Pair<S, P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<S, P: Ord> Eq for Pair<S, P> {}

impl<S: Copy, P: Copy + Ord> Merger<S, P> {
    pub(super) fn new() -> Self {
        Self::with_queues_from(LONG)
    }

    fn with_queues_from(long: usize) -> Self {
        Self { symbols: Vec::new(), pairs: BinaryHeap::new(), queues: PairQueues::new(), long }
    }

    /// What remains of `symbols`. `join` gives the priority and the result of merging two neighbours, if they
    /// may be merged.
    pub(super) fn merge(
        &mut self,
        symbols: impl Iterator<Item = S>,
        join: impl Fn(S, S) -> Option<(P, S)>,
    ) -> impl Iterator<Item = S> {
        self.symbols.clear();
        self.symbols.extend(symbols.enumerate().map(|(index, value)| Symbol {
            value,
            previous: index.wrapping_sub(1),
            next: index + 1,
        }));
        for left in 0..self.symbols.len() {
            self.find(left, &join);
        }
        while let Some(Pair { left, right, after, merged, .. }) = self.best() {
            if self.symbols[left].next != right || self.symbols[right].next != after {
                continue;
            }
            self.symbols[right].next = GONE;
            if let Some(after) = self.symbols.get_mut(after) {
                after.previous = left;
            }
            let grown = &mut self.symbols[left];
            (grown.value, grown.next) = (merged, after);
            let previous = grown.previous;
            self.find(previous, &join);
            self.find(left, &join);
        }
        let mut at = 0;
        iter::from_fn(move || {
            let symbol = self.symbols.get(at)?;
            at = symbol.next;
            Some(symbol.value)
        })
    }

    /// Notes the pair of symbol `left` and its right neighbour, if both exist and may be merged.
    fn find(&mut self, left: usize, join: impl Fn(S, S) -> Option<(P, S)>) {
        let Some(l) = self.symbols.get(left) else { return };
        let Some(r) = self.symbols.get(l.next) else { return };
        if let Some((priority, merged)) = join(l.value, r.value) {
            let pair = Pair { priority, left, right: l.next, after: r.next, merged };
            if self.symbols.len() < self.long {
                self.pairs.push(pair);
            } else {
                self.queues.push(priority, left, pair);
            }
        }
    }

    /// Takes the best pair.
    fn best(&mut self) -> Option<Pair<S, P>> {
        if self.symbols.len() < self.long { self.pairs.pop() } else { self.queues.pop() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: usize = 5;

    /// The definition: look at all pairs before each merge.
    fn merged_by_definition(mut symbols: Vec<u8>, join: impl Fn(u8, u8) -> Option<(u8, u8)>) -> Vec<u8> {
        loop {
            let pairs = symbols.windows(2).enumerate();
            let found = pairs.filter_map(|(at, pair)| join(pair[0], pair[1]).map(|join| (at, join)));
            // Of equal ones the last is the maximum.
            let Some((at, (_, merged))) = found.rev().max_by_key(|(_, (priority, _))| *priority) else {
                return symbols;
            };
            symbols.splice(at..at + 2, [merged]);
        }
    }

    proptest! {
        #[test]
        fn symbols_merge_as_by_looking_at_all_pairs_before_each_merge(
            texts in prop::collection::vec(prop::collection::vec(0..KINDS as u8, 0..40), 1..4),
            table in prop::collection::vec(
                prop::option::weighted(0.6, (0u8..6, 0..KINDS as u8)),
                KINDS * KINDS,
            ),
        ) {
            let join = |left: u8, right: u8| table[usize::from(left) * KINDS + usize::from(right)];
            let [mut short, mut long] = [LONG, 0].map(Merger::with_queues_from);
            for text in texts {
                let [by_heap, by_queues] = [&mut short, &mut long]
                    .map(|merger| merger.merge(text.iter().copied(), join).collect::<Vec<u8>>());
                let expected = merged_by_definition(text, join);
                prop_assert_eq!((&by_heap, &by_queues), (&expected, &expected));
            }
        }
    }
}
