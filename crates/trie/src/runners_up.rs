//! What the model itself held likely: the tokens that ranked first where the same last tokens stood before.
//!
//! The idea is that of TokenRecycling (Luo et al. 2024, "Turning Trash into Treasure: Accelerating Inference of Large
//! Language Models with Token Recycling"): a pass computes the logits of each verified node anyway, and those that it did
//! not choose are guesses where no text knows better.

use crate::TokenId;

/// Tokens that are kept of a context, the likeliest first.
pub const RANKS: usize = 8;

/// Contexts that they are kept by: the last two tokens, and the last one.
pub(crate) const CONTEXTS: usize = 2;

#[derive(Clone, Copy)]
struct Entry {
    /// The context: its last token, and the one before it where two count.
    key: [TokenId; CONTEXTS],
    tokens: [TokenId; RANKS],
}

/// In the place of a token that does not count.
const NO_TOKEN: TokenId = TokenId::MAX;

const FREE: Entry = Entry { key: [NO_TOKEN; CONTEXTS], tokens: [NO_TOKEN; RANKS] };

/// A table of a fixed number of contexts: each has one place, and the latest that wants it has it.
#[derive(Clone)]
pub(crate) struct RunnersUp {
    entries: Vec<Entry>,
}

impl RunnersUp {
    /// A table of `places`, a power of two.
    pub(crate) fn new(places: usize) -> Self {
        Self { entries: vec![FREE; places] }
    }

    /// What followed likeliest behind the end of `context`: its last two tokens, and its last one.
    pub(crate) fn of(&self, context: &[TokenId]) -> [Option<&[TokenId; RANKS]>; CONTEXTS] {
        keys(context).map(|key| {
            let entry = &self.entries[self.place(key?)];
            (Some(entry.key) == key).then_some(&entry.tokens)
        })
    }

    /// Keeps what followed likeliest behind `context`.
    pub(crate) fn put(&mut self, context: &[TokenId], tokens: [TokenId; RANKS]) {
        for key in keys(context).into_iter().flatten() {
            let place = self.place(key);
            self.entries[place] = Entry { key, tokens };
        }
    }

    /// Takes over all that `newer` holds.
    pub(crate) fn join(&mut self, newer: &Self) {
        for entry in newer.entries.iter().filter(|entry| entry.key != FREE.key) {
            let place = self.place(entry.key);
            self.entries[place] = *entry;
        }
    }

    /// Allocated bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    fn place(&self, key: [TokenId; CONTEXTS]) -> usize {
        let hash = key.iter().fold(0u64, |hash, &token| {
            (hash.rotate_left(23) ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        (hash >> 32) as usize & (self.entries.len() - 1)
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
        let mut table = RunnersUp::new(64);
        table.put(&[5, 1, 2], [10; RANKS]);
        table.put(&[3, 2], [20; RANKS]);
        assert_eq!(table.of(&[9, 1, 2]), [Some(&[10; RANKS]), Some(&[20; RANKS])]);
        assert_eq!(table.of(&[2]), [None, Some(&[20; RANKS])]);
        assert_eq!(table.of(&[2, 1]), [None, None]);
        assert_eq!(table.of(&[]), [None, None]);
    }

    #[test]
    fn a_table_does_not_grow_and_never_confuses_contexts() {
        let mut table = RunnersUp::new(16);
        let bytes = table.bytes();
        for token in 0..1000 {
            table.put(&[token, token + 1], [token; RANKS]);
        }
        assert_eq!(table.bytes(), bytes);
        for token in 0..1000 {
            for found in table.of(&[token, token + 1]).into_iter().flatten() {
                assert_eq!(found, &[token; RANKS]);
            }
        }
    }

    #[test]
    fn joining_takes_the_newer() {
        let (mut table, mut newer) = (RunnersUp::new(64), RunnersUp::new(4));
        table.put(&[1], [1; RANKS]);
        table.put(&[2], [2; RANKS]);
        newer.put(&[2], [3; RANKS]);
        table.join(&newer);
        assert_eq!((table.of(&[1])[1], table.of(&[2])[1]), (Some(&[1; RANKS]), Some(&[3; RANKS])));
    }
}
