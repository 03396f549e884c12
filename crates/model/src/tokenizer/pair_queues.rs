//! What a long text's pairs wait in: a queue for each priority, in which they stand from left to right.
//!
//! A heap of millions of pairs takes a dozen steps through distant memory for each. But pairs of one priority are found nearly
//! in order, as merging goes from left to right: each is put at the end of its queue and taken from the front.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

/// Items by priority, the greatest first, of one priority the leftmost first.
#[derive(Debug)]
pub(super) struct PairQueues<P, T>(BTreeMap<P, Queue<T>>);

/// Items of one priority, each with its place.
#[derive(Debug)]
struct Queue<T> {
    /// Those that came in order.
    ordered: VecDeque<(usize, T)>,
    /// Those that came behind others further to the right.
    late: BinaryHeap<Late<T>>,
}

/// An item by its place alone, the leftmost the greatest.
#[derive(Debug)]
struct Late<T>(usize, T);

impl<P: Copy + Ord, T> PairQueues<P, T> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn push(&mut self, priority: P, place: usize, item: T) {
        let new = || Queue { ordered: VecDeque::new(), late: BinaryHeap::new() };
        let Queue { ordered, late } = self.0.entry(priority).or_insert_with(new);
        if ordered.back().is_none_or(|(last, _)| *last <= place) {
            ordered.push_back((place, item));
        } else {
            late.push(Late(place, item));
        }
    }

    /// Takes the first item of the greatest priority.
    pub(super) fn pop(&mut self) -> Option<T> {
        let mut best = self.0.last_entry()?;
        let Queue { ordered, late } = best.get_mut();
        let is_late = match (ordered.front(), late.peek()) {
            (Some((place, _)), Some(Late(late, _))) => late < place,
            (ordered, _) => ordered.is_none(),
        };
        let item = if is_late {
            late.pop().map(|Late(_, item)| item)
        } else {
            ordered.pop_front().map(|(_, item)| item)
        };
        if ordered.is_empty() && late.is_empty() {
            best.remove();
        }
        item
    }
}

impl<T> Ord for Late<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Reverse(self.0).cmp(&Reverse(other.0))
    }
}

impl<T> PartialOrd for Late<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Late<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Late<T> {}
