//! Where the sequences of one length ended last: a hash table that one writer changes while others read.

use crate::sync::{AtomicU64, Ordering};

/// The least number of slots, a power of two.
#[cfg(not(loom))]
const MIN_SLOTS: usize = 64;
#[cfg(loom)]
const MIN_SLOTS: usize = 4;

/// A free slot. No taken one looks like it, as no sequence ends at [`u32::MAX`].
pub(super) const FREE: u64 = u64::MAX;

/// A table of slots, each the upper half of a sequence's hash, which tells sequences apart, and its last end.
///
/// Sequences are known by 32 bits of their hashes alone, so that insertion reads no text: now and then two share their
/// ends. Whoever follows ends compares the text.
pub(super) struct Slots {
    /// Open addressing with linear probing; a power of two, or none. At most three quarters are taken.
    slots: Box<[AtomicU64]>,
}

impl Slots {
    /// A table for twice as many sequences as one of `len` slots holds.
    fn after(len: usize) -> Self {
        let len = (len * 2).max(MIN_SLOTS);
        Self { slots: (0..len).map(|_| AtomicU64::new(FREE)).collect() }
    }

    /// No slots.
    pub(super) fn empty() -> Self {
        Self { slots: Box::new([]) }
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slot `index`, as it is kept in files.
    pub(super) fn get(&self, index: usize) -> u64 {
        self.slots[index].load(Ordering::Acquire)
    }

    /// Whether a table with `taken` sequences must grow before it takes another.
    pub(super) fn is_full(&self, taken: usize) -> bool {
        taken * 4 >= self.slots.len() * 3
    }

    /// A table of twice the size that knows the same.
    pub(super) fn grown(&self) -> Self {
        let grown = Self::after(self.slots.len());
        for slot in &self.slots {
            let slot = slot.load(Ordering::Relaxed);
            if slot != FREE {
                let (index, _) = grown.find(tag_of(slot));
                grown.slots[index].store(slot, Ordering::Relaxed);
            }
        }
        grown
    }

    /// A table that knows the same. Its writer, who asks for it, changes none meanwhile.
    pub(super) fn copy(&self) -> Self {
        Self { slots: self.slots.iter().map(|slot| AtomicU64::new(slot.load(Ordering::Relaxed))).collect() }
    }

    /// The slot of the sequence of this hash, until the table is replaced, and where the sequence ended last.
    pub(super) fn place(&self, hash: u64) -> (usize, Option<u32>) {
        if self.slots.is_empty() {
            return (0, None);
        }
        let (index, slot) = self.find(tag(hash));
        (index, (slot != FREE).then_some(slot as u32))
    }

    /// Says that the sequence of this hash, whose slot is `index`, ends at `end`. What was written before the call is seen by
    /// whoever finds `end`.
    pub(super) fn put(&self, index: usize, hash: u64, end: u32) {
        self.slots[index].store(u64::from(tag(hash)) << 32 | u64::from(end), Ordering::Release);
    }

    /// The slot of this tag and what is in it, or the free one where it belongs.
    fn find(&self, tag: u32) -> (usize, u64) {
        probe(self.slots.len(), tag, |index| self.slots[index].load(Ordering::Acquire))
    }
}

/// Bytes of a table of `len` slots.
pub(super) fn bytes(len: usize) -> usize {
    len * size_of::<AtomicU64>()
}

/// Slots of the table that follows one of `len`.
pub(super) fn next_len(len: usize) -> usize {
    (len * 2).max(MIN_SLOTS)
}

/// The upper half of a hash.
pub(super) fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn tag_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// Looks through the slots where `tag` may be, `len` at most: that of the tag or the first free one, and what it holds.
/// In a table without either (a damaged file), any and [`FREE`].
pub(super) fn probe(len: usize, tag: u32, slot: impl Fn(usize) -> u64) -> (usize, u64) {
    // The upper bits choose, so that a table twice as large keeps the order of its entries.
    let first = ((u64::from(tag) * len as u64) >> 32) as usize;
    for step in 0..len {
        let index = (first + step) & (len - 1);
        let here = slot(index);
        if here == FREE || tag_of(here) == tag {
            return (index, here);
        }
    }
    (first, FREE)
}
