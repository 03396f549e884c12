//! The names of a model's control tokens in text.

use aho_corasick::{AhoCorasick, BuildError};

use crate::TokenId;
use crate::tokenizer::Tokenizer;

/// Finds the names of all control tokens, in time linear in the text.
#[derive(Debug)]
pub(super) struct ControlNames(AhoCorasick);

impl ControlNames {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self, BuildError> {
        let controls = (0..tokenizer.vocabulary_size() as TokenId).filter(|&id| tokenizer.is_control(id));
        Self::of(controls.filter_map(|id| str::from_utf8(tokenizer.token_bytes(id)).ok()))
    }

    fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, BuildError> {
        AhoCorasick::new(names.into_iter().filter(|name| !name.is_empty())).map(Self)
    }

    /// Whether a name occurs in `text`.
    pub(super) fn occur_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// `text` with `mark` behind the first character of every occurrence of a name, overlapping ones included.
    pub(super) fn mark(&self, text: &str, mark: char) -> String {
        let mut begins: Vec<usize> = self.0.find_overlapping_iter(text).map(|found| found.start()).collect();
        begins.sort_unstable();
        begins.dedup();
        let mut marked = String::with_capacity(text.len() + begins.len() * mark.len_utf8());
        let mut copied = 0;
        for begin in begins {
            let behind = begin + text[begin..].chars().next().map_or(0, char::len_utf8);
            marked.push_str(&text[copied..behind]);
            marked.push(mark);
            copied = behind;
        }
        marked.push_str(&text[copied..]);
        marked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_is_marked_wherever_it_begins(
            names in prop::collection::vec("[ab<é]{0,4}", 0..6),
            text in "[ab<é>]{0,24}",
        ) {
            let begins = |rest: &str| names.iter().any(|name| !name.is_empty() && rest.starts_with(name.as_str()));
            let mut expected = String::new();
            for (at, character) in text.char_indices() {
                expected.push(character);
                if begins(&text[at..]) {
                    expected.push('|');
                }
            }
            let control_names = ControlNames::of(names.iter().map(String::as_str)).unwrap();
            prop_assert_eq!(control_names.occur_in(&text), expected.contains('|'));
            prop_assert_eq!(control_names.mark(&text, '|'), expected);
        }
    }
}
