//! Where the sequences of one length end.

const NONE: u32 = u32::MAX;

/// The least number of slots, a power of two.
const MIN_SLOTS: usize = 64;

/// A sequence's entry in the table: the upper half of its hash, which tells sequences apart, and its last end.
#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    last: u32,
}

const FREE: Slot = Slot { tag: 0, last: NONE };

/// The ends of all sequences of one length: for each sequence its last end, and for each end the one before it.
///
/// Sequences are known by 32 bits of their hashes alone, so that insertion reads no text: now and then two share their
/// ends. Whoever follows ends compares the text.
#[derive(Default)]
pub(super) struct GramIndex {
    /// Open addressing with linear probing; a power of two. At most three quarters are taken.
    slots: Vec<Slot>,
    taken: usize,
    /// For each token of the log, where the sequence that it ends ended before.
    before: Vec<u32>,
}

impl GramIndex {
    /// Adds the next token of the log, which ends the sequence of this hash, if any.
    pub(super) fn push(&mut self, hash: Option<u64>) {
        let end = self.before.len() as u32;
        let Some(hash) = hash else { return self.before.push(NONE) };
        if self.taken * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let slot = find(&self.slots, tag(hash));
        let slot = &mut self.slots[slot];
        self.taken += usize::from(slot.last == NONE);
        self.before.push(slot.last);
        *slot = Slot { tag: tag(hash), last: end };
    }

    /// Where the sequence of this hash ended last.
    pub(super) fn last(&self, hash: u64) -> Option<u32> {
        let slot = self.slots.get(find(&self.slots, tag(hash)))?;
        (slot.last != NONE).then_some(slot.last)
    }

    /// Where the sequence that ends at `end` ended before.
    pub(super) fn before(&self, end: u32) -> Option<u32> {
        let before = self.before[end as usize];
        (before != NONE).then_some(before)
    }

    /// Allocated bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.before.capacity() * size_of::<u32>()
    }

    fn grow(&mut self) {
        let mut slots = vec![FREE; (self.slots.len() * 2).max(MIN_SLOTS)];
        for &taken in self.slots.iter().filter(|slot| slot.last != NONE) {
            let slot = find(&slots, taken.tag);
            slots[slot] = taken;
        }
        self.slots = slots;
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The slot of this tag, or the free one where it belongs; 0 if there are no slots.
fn find(slots: &[Slot], tag: u32) -> usize {
    let Some(mask) = slots.len().checked_sub(1) else { return 0 };
    // The upper bits choose, so that a table twice as large keeps the order of its entries.
    let mut index = ((u64::from(tag) * slots.len() as u64) >> 32) as usize;
    while slots[index].last != NONE && slots[index].tag != tag {
        index = (index + 1) & mask;
    }
    index
}
