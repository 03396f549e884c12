//! A list that one writer appends to while others read, without a lock and without ever moving an entry.

use std::sync::OnceLock;

use crate::sync::{AtomicU32, Ordering};

/// Entries of the first chunk, a power of two.
#[cfg(not(loom))]
const FIRST_BITS: u32 = 8;
#[cfg(loom)]
const FIRST_BITS: u32 = 1;

/// Entries of the largest chunks, a power of two: they grow to that by doubling.
#[cfg(not(loom))]
const LAST_BITS: u32 = 20;
#[cfg(loom)]
const LAST_BITS: u32 = 3;

/// Chunks that double: the first two have the same size.
const DOUBLING: usize = (LAST_BITS - FIRST_BITS + 1) as usize;

/// The most chunks of the largest size: with the doubling ones, 2 to the power of 32 entries.
const LARGE: usize = (1 << (32 - LAST_BITS)) - 1;

type Chunk<const N: usize> = OnceLock<Box<[[AtomicU32; N]]>>;

/// Entries of `N` numbers each, found by their index.
///
/// Numbers are read and written without order between them: whoever reads an entry must have learned, in a way that orders
/// memory, that it was written ([`Log`](super::Log) publishes its length).
pub(super) struct Column<const N: usize> {
    doubling: [Chunk<N>; DOUBLING],
    large: OnceLock<Box<[Chunk<N>]>>,
}

impl<const N: usize> Default for Column<N> {
    fn default() -> Self {
        Self { doubling: [const { OnceLock::new() }; DOUBLING], large: OnceLock::new() }
    }
}

/// The chunk of an entry, and its place there.
fn place(index: u32) -> (usize, usize) {
    if index < 1 << LAST_BITS {
        let chunk = (index >> FIRST_BITS).checked_ilog2().map_or(0, |bits| bits + 1);
        let first = if chunk == 0 { 0 } else { 1 << (FIRST_BITS + chunk - 1) };
        (chunk as usize, (index - first) as usize)
    } else {
        let chunk = DOUBLING + (index >> LAST_BITS) as usize - 1;
        (chunk, (index & ((1 << LAST_BITS) - 1)) as usize)
    }
}

/// Entries of a chunk.
fn chunk_len(chunk: usize) -> usize {
    match chunk {
        0 => 1 << FIRST_BITS,
        _ => 1 << (FIRST_BITS as usize + chunk - 1).min(LAST_BITS as usize),
    }
}

impl<const N: usize> Column<N> {
    /// Writes an entry.
    pub(super) fn set(&self, index: u32, values: [u32; N]) {
        let (chunk, at) = place(index);
        let entries = self.chunk(chunk).get_or_init(|| new_chunk(chunk_len(chunk)));
        for (entry, value) in entries[at].iter().zip(values) {
            entry.store(value, Ordering::Relaxed);
        }
    }

    /// Number `number` of an entry; 0 where nothing was written.
    pub(super) fn get(&self, index: u32, number: usize) -> u32 {
        self.run_to(index).last().map_or(0, |entry| entry[number].load(Ordering::Relaxed))
    }

    /// The entries before and including `index` that stand beside it, ascending; none where nothing was written.
    pub(super) fn run_to(&self, index: u32) -> &[[AtomicU32; N]] {
        let (chunk, at) = place(index);
        let chunk = match chunk.checked_sub(DOUBLING) {
            None => self.doubling[chunk].get(),
            Some(chunk) => self.large.get().and_then(|large| large[chunk].get()),
        };
        chunk.map_or(&[], |entries| &entries[..=at])
    }

    /// A list with the same entries. Its writer, who asks for it, writes none meanwhile.
    pub(super) fn copy(&self) -> Self {
        let large = self.large.get().map(|chunks| chunks.iter().map(copy_of).collect::<Box<[_]>>());
        Self {
            doubling: std::array::from_fn(|chunk| copy_of(&self.doubling[chunk])),
            large: large.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// Bytes that a list of `len` entries takes.
    pub(super) fn bytes(len: u32) -> usize {
        let Some(last) = len.checked_sub(1) else { return 0 };
        let (chunk, _) = place(last);
        let entries: usize = (0..=chunk).map(chunk_len).sum();
        let directory = if chunk < DOUBLING { 0 } else { LARGE * size_of::<Chunk<N>>() };
        entries * size_of::<[AtomicU32; N]>() + directory
    }

    fn chunk(&self, chunk: usize) -> &Chunk<N> {
        match chunk.checked_sub(DOUBLING) {
            None => &self.doubling[chunk],
            Some(chunk) => &self.large.get_or_init(|| (0..LARGE).map(|_| OnceLock::new()).collect())[chunk],
        }
    }
}

fn copy_of<const N: usize>(chunk: &Chunk<N>) -> Chunk<N> {
    let Some(entries) = chunk.get() else { return OnceLock::new() };
    let number = |number: &AtomicU32| AtomicU32::new(number.load(Ordering::Relaxed));
    OnceLock::from(entries.iter().map(|entry| entry.each_ref().map(number)).collect::<Box<[_]>>())
}

fn new_chunk<const N: usize>(len: usize) -> Box<[[AtomicU32; N]]> {
    (0..len).map(|_| std::array::from_fn(|_| AtomicU32::new(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut next = (0, 0);
        let last = (1 << LAST_BITS) * 3 + 5;
        for index in 0..last {
            assert_eq!(place(index), next, "{index}");
            next.1 += 1;
            if next.1 == chunk_len(next.0) {
                next = (next.0 + 1, 0);
            }
        }
        let (chunk, at) = place(u32::MAX);
        assert_eq!((chunk - DOUBLING, at), (LARGE - 1, (1 << LAST_BITS) - 1));
    }

    #[test]
    fn entries_keep_what_was_written() {
        let column = Column::<2>::default();
        let indexes = [0, 1, 255, 256, 5_000, (1 << 20) - 1, 1 << 20, 3 << 20];
        for index in indexes {
            column.set(index, [index, index + 1]);
        }
        for index in indexes {
            assert_eq!([column.get(index, 0), column.get(index, 1)], [index, index + 1]);
        }
        assert_eq!(column.get(2 << 20, 0), 0, "never written");
    }

    #[test]
    fn a_list_takes_little_more_than_its_entries() {
        assert_eq!(Column::<1>::bytes(0), 0);
        assert_eq!(Column::<1>::bytes(1), 4 << FIRST_BITS);
        for len in [1_000_000, 10_000_000, 100_000_000] {
            let bytes = Column::<1>::bytes(len) as f64;
            assert!(bytes <= f64::from(len) * 4.0 * 1.05 + f64::from(5 << 20), "{len}: {bytes}");
        }
    }
}
