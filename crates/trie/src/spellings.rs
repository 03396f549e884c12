//! Tokens that are one word spelled twice: with a space before it, and without.

use std::collections::HashMap;

use crate::TokenId;

/// For each token of a vocabulary the one with the same text but for a space before it, if there is one.
///
/// In a prompt most words stand behind a space. An answer that quotes one begins it behind a quotation mark, a bracket or the mark
/// of a changed line, so its first token is another, while those behind it are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spellings {
    /// [`NONE`] where there is no other.
    others: Box<[TokenId]>,
}

/// There is no other spelling.
const NONE: TokenId = TokenId::MAX;

impl Spellings {
    /// Those of a vocabulary, whose tokens stand for the bytes `texts`, in the order of their ids. Of tokens that stand for the
    /// same bytes the first counts. Takes time and memory in proportion to the bytes.
    pub fn new<'t>(texts: impl ExactSizeIterator<Item = &'t [u8]> + Clone) -> Self {
        let mut by_text = HashMap::with_capacity(texts.len());
        for (id, text) in (0..).zip(texts.clone()) {
            by_text.entry(text).or_insert(id);
        }
        let mut others = vec![NONE; texts.len()].into_boxed_slice();
        for (id, text) in (0..).zip(texts) {
            if let Some(word) = text.strip_prefix(b" ")
                && by_text[text] == id
                && !word.is_empty()
                && !word.starts_with(b" ")
                && let Some(&without) = by_text.get(word)
            {
                (others[id as usize], others[without as usize]) = (without, id);
            }
        }
        Self { others }
    }

    /// The other spelling of `token`.
    pub(crate) fn other(&self, token: TokenId) -> Option<TokenId> {
        self.others.get(token as usize).copied().filter(|&other| other != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_spelled_with_and_without_a_space_before_it() {
        let texts: [&[u8]; 9] = [b"the", b" the", b" ", b"  the", b"", b"a", b" the", b"the", b" b"];
        let spellings = Spellings::new(texts.into_iter());
        let others: Vec<_> = (0..10).map(|token| spellings.other(token)).collect();
        let mut expected = [None; 10];
        (expected[0], expected[1]) = (Some(1), Some(0));
        assert_eq!(others, expected, "of equal tokens the first counts");
    }
}
