//! From a token's text to its id.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::byte_strings::ByteStrings;
use crate::TokenId;

/// The ids of texts. The table holds ids alone and looks their texts up: a map of strings takes ten times the
/// memory.
#[derive(Debug)]
pub(super) struct TextIndex {
    texts: ByteStrings,
    ids: HashTable<TokenId>,
    hasher: DefaultHashBuilder,
}

impl TextIndex {
    /// Gives each text its place in the list as its id. Empty texts have none: nothing spells them.
    ///
    /// # Errors
    /// The ids of two texts that are equal.
    pub(super) fn new(tokens: &[&str]) -> Result<Self, [TokenId; 2]> {
        let bytes = tokens.iter().map(|text| text.len()).sum();
        let mut index = Self {
            texts: ByteStrings::with_capacity(tokens.len(), bytes),
            ids: HashTable::with_capacity(tokens.len()),
            hasher: DefaultHashBuilder::default(),
        };
        for (id, text) in (0..).zip(tokens) {
            index.texts.push(text.bytes());
            if text.is_empty() {
                continue;
            }
            if let Some(earlier) = index.get(text) {
                return Err([earlier, id]);
            }
            let Self { texts, ids, hasher } = &mut index;
            let hash = |id: &TokenId| hasher.hash_one(texts.get(*id as usize));
            ids.insert_unique(hash(&id), id, hash);
        }
        Ok(index)
    }

    /// The id of `text`.
    pub(super) fn get(&self, text: &str) -> Option<TokenId> {
        let text = Some(text.as_bytes());
        self.ids.find(self.hasher.hash_one(text), |id| self.texts.get(*id as usize) == text).copied()
    }

    /// Forgets the ids that are not to be found any more.
    pub(super) fn retain(&mut self, keep: impl Fn(TokenId) -> bool) {
        self.ids.retain(|id| keep(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_all_of_their_bytes_until_they_are_forgotten() {
        let mut index = TextIndex::new(&["a", "", "ab", "▁", "b"]).unwrap();
        assert_eq!(["a", "ab", "▁", "b"].map(|text| index.get(text)), [Some(0), Some(2), Some(3), Some(4)]);
        assert_eq!(["", "aba", "ba", "\u{2580}"].map(|text| index.get(text)), [None; 4]);
        index.retain(|id| id > 2);
        assert_eq!(["a", "ab", "▁", "b"].map(|text| index.get(text)), [None, None, Some(3), Some(4)]);
    }

    #[test]
    fn equal_texts_are_refused() {
        assert_eq!(TextIndex::new(&["a", "", "b", "", "a"]).unwrap_err(), [0, 4]);
    }
}
