//! SentencePiece BPE by scores: of all neighbouring pairs that spell a token, merge the best-scored, leftmost
//! first.
//!
//! Source: Kudo & Richardson, "SentencePiece" (EMNLP 2018), section 3.1; `llama.cpp` does the same.

use std::cmp::Ordering;

use super::{
    error::TokenizerError,
    merging::Merger,
    text_index::TextIndex,
    vocabulary::{SENTENCE_PIECE_SPACE, TokenKind, Vocabulary},
};
use crate::TokenId;

#[derive(Debug)]
pub(super) struct SentencePiece {
    /// The tokens that plain text may become.
    ids: TextIndex,
    /// Of every token.
    scores: Vec<Score>,
    /// The longest of `ids`: longer pairs need no lookup.
    longest_bytes: usize,
    /// The token of each byte, for characters that are no token.
    bytes: Box<[TokenId; 256]>,
    add_space_prefix: bool,
}

/// A score; not NaN.
#[derive(Clone, Copy, Debug)]
struct Score(f32);

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl SentencePiece {
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        kinds: &[TokenKind],
        mut ids: TextIndex,
    ) -> Result<Self, TokenizerError> {
        let scores = vocabulary.scores()?;
        let texts = vocabulary.tokens.iter().zip(kinds).filter(|(_, kind)| kind.is_text());
        let longest_bytes = texts.map(|(text, _)| text.len()).max().unwrap_or(0);
        ids.retain(|id| kinds[id as usize].is_text());
        let scores = scores.iter().map(|score| Score(score + 0.0)).collect(); // -0.0 becomes 0.0: they are one score
        let bytes = vocabulary.byte_tokens(kinds)?;
        let add_space_prefix = vocabulary.add_space_prefix.unwrap_or(true);
        Ok(Self { ids, scores, longest_bytes, bytes, add_space_prefix })
    }

    pub(super) fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// Appends the ids of `text`. `begins` says that nothing, or a special token, stands before it.
    pub(super) fn encode(&self, text: &str, begins: bool, ids: &mut Vec<TokenId>) {
        let mut spelt = text.replace(' ', SENTENCE_PIECE_SPACE);
        if begins && self.add_space_prefix {
            spelt.insert_str(0, SENTENCE_PIECE_SPACE);
        }
        let characters = spelt.char_indices().map(|(start, character)| (start, start + character.len_utf8()));
        let join = |(start, _): (usize, usize), (_, end): (usize, usize)| {
            if end - start > self.longest_bytes {
                return None;
            }
            let id = self.ids.get(&spelt[start..end])?;
            Some((self.scores[id as usize], (start, end)))
        };
        for (start, end) in Merger::new().merge(characters, join) {
            let piece = &spelt[start..end];
            match self.ids.get(piece) {
                Some(id) => ids.push(id),
                None => ids.extend(piece.bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }
}
