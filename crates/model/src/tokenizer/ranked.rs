//! Byte-level BPE without a list of merges, as tiktoken does it: of all neighbours that are a token together, the pair that is
//! the first token is merged, of equal ones the leftmost, until no pair is a token.
//!
//! <https://github.com/openai/tiktoken>. Tokens are ranked by their ids.

use std::borrow::Cow;
use std::cmp::Reverse;

use tokenizers::NormalizedString;

use super::byte_level::{self, ALPHABET};
use super::error::TokenizerError;
use super::merging::Merger;
use super::pre_tokenizer::{PreTokenizer, Split, cut};
use super::text_index::TextIndex;
use super::vocabulary::{TokenKind, Vocabulary, field};
use crate::TokenId;

#[derive(Debug)]
pub(super) struct Ranked {
    splits: Vec<Split>,
    /// The tokens that plain text may become, spelt in the alphabet of bytes; each byte is one of them.
    ids: TextIndex,
    /// The longest of `ids`, as it is spelt: longer pairs need no lookup.
    longest: usize,
    /// Whether characters are composed first, an accent with its letter (NFC).
    pub(super) composes: bool,
}

impl Ranked {
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        kinds: &[TokenKind],
        words: &PreTokenizer,
        composes: bool,
    ) -> Result<Self, TokenizerError> {
        let invalid = |problem: String| vocabulary.invalid(field::TOKENS, problem);
        let ids = vocabulary.ids_of(|id| kinds[id] == TokenKind::Normal)?;
        for (byte, character) in ALPHABET.iter().enumerate() {
            if ids.get(character.encode_utf8(&mut [0; 4])).is_none() {
                return Err(invalid(format!("no token is the byte 0x{byte:02X}")));
            }
        }
        let splits = words.compile().map_err(|error| invalid(error.to_string()))?;
        let longest = vocabulary.longest();
        Ok(Self { splits, ids, longest, composes })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let text = if self.composes { composed(text) } else { Cow::Borrowed(text) };
        let mut spelt = String::new();
        let mut merger = Merger::new();
        for (start, end) in cut(&self.splits, &text) {
            spelt.clear();
            byte_level::spell(&text[start..end], &mut spelt);
            if let Some(id) = self.ids.get(&spelt) {
                ids.push(id);
                continue;
            }
            let symbols =
                spelt.char_indices().map(|(start, character)| (start, start + character.len_utf8()));
            let join = |(start, _): (usize, usize), (_, end): (usize, usize)| {
                let is_short = end - start <= self.longest;
                let id = is_short.then(|| self.ids.get(&spelt[start..end])).flatten()?;
                Some((Reverse(id), (start, end)))
            };
            let merged = merger.merge(symbols, join);
            ids.extend(merged.filter_map(|(start, end)| self.ids.get(&spelt[start..end])));
        }
    }
}

fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut text = NormalizedString::from(text);
    text.nfc();
    Cow::Owned(text.get().to_owned())
}
