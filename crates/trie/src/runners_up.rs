//! What the model itself held likely: the tokens that ranked first where the same last tokens stood before.
//!
//! The idea is that of TokenRecycling (Luo et al. 2024, "Turning Trash into Treasure: Accelerating Inference of Large
//! Language Models with Token Recycling"): a pass computes the logits of each verified node anyway, and those that it did
//! not choose are guesses where no text knows better.

use std::sync::OnceLock;

use crate::TokenId;
use crate::sync::{AtomicU32, Ordering, fence};

/// Tokens that are kept of a context, the likeliest first.
pub const RANKS: usize = 8;

/// Contexts that they are kept by: the last two tokens, and the last one.
pub(crate) const CONTEXTS: usize = 2;

/// In the place of a token that does not count, and of one that there is not.
pub(crate) const NO_TOKEN: TokenId = TokenId::MAX;

/// What stands in a file of an entry: the context (its last token, and the one before it where two count), then the tokens.
const WORDS: usize = CONTEXTS + RANKS;

/// Bytes of an entry in a file.
const ENTRY_BYTES: usize = 4 * WORDS;

/// An entry that one writer changes while others read: an odd version says that it is being changed, and who read it under
/// two different versions has read nothing (a sequence lock).
struct Entry<const N: usize = WORDS> {
    version: AtomicU32,
    words: [AtomicU32; N],
}

/// A table of a fixed number of contexts: each has one place, and the latest that wants it has it. It takes memory from the
/// first entry on, as most requests have none.
pub(crate) struct RunnersUp {
    places: usize,
    entries: OnceLock<Box<[Entry]>>,
}

impl<const N: usize> Entry<N> {
    fn free() -> Self {
        Self { version: AtomicU32::new(0), words: std::array::from_fn(|_| AtomicU32::new(NO_TOKEN)) }
    }

    fn read(&self) -> Option<[u32; N]> {
        let before = self.version.load(Ordering::Acquire);
        let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before).then_some(words)
    }

    fn write(&self, words: [u32; N]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

impl RunnersUp {
    /// A table of `places`, a power of two.
    pub(crate) fn new(places: usize) -> Self {
        Self { places, entries: OnceLock::new() }
    }

    /// What followed likeliest behind the end of `context`: its last two tokens, and its last one.
    pub(crate) fn of(&self, context: &[TokenId]) -> [Option<[TokenId; RANKS]>; CONTEXTS] {
        keys(context).map(|key| {
            let key = key?;
            let words = self.entries.get()?[self.place(key)].read()?;
            let (found, tokens) = words.split_first_chunk().zip(words.last_chunk())?;
            (*found.0 == key).then_some(*tokens)
        })
    }

    /// Keeps what followed likeliest behind `context`. One at a time may write.
    pub(crate) fn put(&self, context: &[TokenId], tokens: [TokenId; RANKS]) {
        for [last, before] in keys(context).into_iter().flatten() {
            let mut words = [NO_TOKEN; WORDS];
            words[..CONTEXTS].copy_from_slice(&[last, before]);
            words[CONTEXTS..].copy_from_slice(&tokens);
            self.put_words(words);
        }
    }

    /// Takes over all that `newer` holds.
    pub(crate) fn join(&self, newer: &Self) {
        newer.each(|words| self.put_words(words));
    }

    /// Bytes that it takes when it has an entry.
    pub(crate) fn bytes(&self) -> usize {
        self.places * size_of::<Entry>()
    }

    /// As bytes for a file, which [`RunnersUp::join_bytes`] reads.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.each(|words| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes())));
        bytes
    }

    /// Takes over what [`RunnersUp::to_bytes`] gave; a rest that is no entry is left out.
    pub(crate) fn join_bytes(&self, bytes: &[u8]) {
        for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
            let words = entry.as_chunks::<4>().0;
            self.put_words(std::array::from_fn(|index| u32::from_le_bytes(words[index])));
        }
    }

    fn each(&self, mut visit: impl FnMut([u32; WORDS])) {
        let entries = self.entries.get().into_iter().flatten().filter_map(Entry::read);
        entries.filter(|words| words[0] != NO_TOKEN).for_each(&mut visit);
    }

    fn put_words(&self, words: [u32; WORDS]) {
        let entries = self.entries.get_or_init(|| (0..self.places).map(|_| Entry::free()).collect());
        entries[self.place([words[0], words[1]])].write(words);
    }

    fn place(&self, key: [TokenId; CONTEXTS]) -> usize {
        let hash = key.iter().fold(0u64, |hash, &token| {
            (hash.rotate_left(23) ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        (hash >> 32) as usize & (self.places - 1)
    }
}

/// The last two tokens, and the last one.
fn keys(context: &[TokenId]) -> [Option<[TokenId; CONTEXTS]>; CONTEXTS] {
    match *context {
        [.., before, last] => [Some([last, before]), Some([last, NO_TOKEN])],
        [last] => [None, Some([last, NO_TOKEN])],
        [] => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_a_context_is_kept_for_its_end_of_two_and_of_one() {
        let table = RunnersUp::new(64);
        table.put(&[5, 1, 2], [10; RANKS]);
        table.put(&[3, 2], [20; RANKS]);
        assert_eq!(table.of(&[9, 1, 2]), [Some([10; RANKS]), Some([20; RANKS])]);
        assert_eq!(table.of(&[2]), [None, Some([20; RANKS])]);
        assert_eq!(table.of(&[2, 1]), [None, None]);
        assert_eq!(table.of(&[]), [None, None]);
    }

    #[test]
    fn a_table_does_not_grow_and_never_confuses_contexts() {
        let table = RunnersUp::new(16);
        let bytes = table.bytes();
        for token in 0..1000 {
            table.put(&[token, token + 1], [token; RANKS]);
        }
        assert_eq!(table.bytes(), bytes);
        for token in 0..1000 {
            for found in table.of(&[token, token + 1]).into_iter().flatten() {
                assert_eq!(found, [token; RANKS]);
            }
        }
    }

    #[test]
    fn joining_takes_the_newer_from_a_table_or_a_file() {
        for by_bytes in [false, true] {
            let (table, newer) = (RunnersUp::new(64), RunnersUp::new(4));
            table.put(&[1], [1; RANKS]);
            table.put(&[2], [2; RANKS]);
            newer.put(&[2], [3; RANKS]);
            if by_bytes {
                let mut bytes = newer.to_bytes();
                bytes.push(9);
                table.join_bytes(&bytes);
            } else {
                table.join(&newer);
            }
            assert_eq!((table.of(&[1])[1], table.of(&[2])[1]), (Some([1; RANKS]), Some([3; RANKS])));
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_entry_is_read_whole_or_not_at_all() {
        loom::model(|| {
            let entry = Arc::new(Entry::<2>::free());
            let reader = {
                let entry = Arc::clone(&entry);
                loom::thread::spawn(move || {
                    let Some([a, b]) = entry.read() else { return };
                    assert!(a == b && [NO_TOKEN, 1, 2].contains(&a), "{a} {b}");
                })
            };
            entry.write([1; 2]);
            entry.write([2; 2]);
            reader.join().unwrap();
            assert_eq!(entry.read(), Some([2; 2]));
        });
    }
}
