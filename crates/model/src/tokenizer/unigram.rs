//! SentencePiece's Unigram: of all ways to cut a text into pieces, the one with the best sum of scores.
//!
//! Source: Kudo, "Subword Regularization" (ACL 2018), and <https://github.com/google/sentencepiece> for what the paper leaves
//! open: how texts are normalised, and what characters cost that are no piece.

use std::str;

use super::byte_strings::ByteStrings;
use super::charsmap::Charsmap;
use super::error::TokenizerError;
use super::special_tokens::{Fragment, SpecialTokens};
use super::vocabulary::{SENTENCE_PIECE_SPACE, TokenKind, Vocabulary, field};
use crate::TokenId;

/// How much worse than the worst piece a character is that is none.
const UNKNOWN_PENALTY: f32 = 10.0;

#[derive(Debug)]
pub(super) struct Unigram {
    pieces: Pieces,
    /// Of every token.
    scores: Vec<Score>,
    unknown_score: f32,
    unknown: Unknown,
    normalizer: Normalizer,
}

/// What a piece adds to a sum.
#[derive(Clone, Copy, Debug)]
enum Score {
    Piece(f32),
    /// So much for each of its bytes: the piece is always taken.
    PerByte(f32),
}

/// What characters become that are no piece.
#[derive(Debug)]
enum Unknown {
    Bytes(Box<[TokenId; 256]>),
    /// One token for a run of them.
    Token(TokenId),
}

/// The best way to cut the text up to some place.
#[derive(Clone, Copy, Debug)]
struct Best {
    score: f32,
    /// The last piece; `None` for a character that is none.
    id: Option<TokenId>,
    start: usize,
}

impl Unigram {
    pub(super) fn new(vocabulary: &Vocabulary<'_>, kinds: &[TokenKind]) -> Result<Self, TokenizerError> {
        let listed = vocabulary.scores()?;
        let normal = || listed.iter().zip(kinds).filter(|(_, kind)| **kind == TokenKind::Normal);
        let greatest = normal().map(|(score, _)| *score).fold(f32::MIN, f32::max);
        let least = normal().map(|(score, _)| *score).fold(f32::MAX, f32::min);
        let scores = listed.iter().zip(kinds).map(|(score, kind)| match kind {
            TokenKind::UserDefined => Score::PerByte(greatest),
            _ => Score::Piece(*score),
        });
        let scores = scores.collect();
        let known = vocabulary.known_bytes(kinds);
        let unknown = match vocabulary.unknown {
            Some(id) if known.contains(&None) => Unknown::Token(id),
            _ => Unknown::Bytes(vocabulary.byte_tokens(kinds)?),
        };
        let is_piece = |kind| matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
        let pieces = (0..).zip(kinds).filter(|(_, kind)| is_piece(**kind)).map(|(id, _)| id);
        Ok(Self {
            pieces: Pieces::new(&vocabulary.tokens, pieces.collect()),
            scores,
            unknown_score: least - UNKNOWN_PENALTY,
            unknown,
            normalizer: Normalizer::new(vocabulary, kinds)?,
        })
    }

    pub(super) fn adds_space_prefix(&self) -> bool {
        self.normalizer.add_space_prefix
    }

    /// Appends the ids of `text`. `begins` says that nothing, or a special token, stands before it.
    pub(super) fn encode(&self, text: &str, begins: bool, ids: &mut Vec<TokenId>) {
        let text = self.normalizer.normalize(text, begins, &self.pieces.texts);
        let mut after_unknown = false;
        for (id, start, end) in self.best_path(&text) {
            match (id, &self.unknown) {
                (Some(id), _) => ids.push(id),
                (None, Unknown::Bytes(bytes)) => {
                    ids.extend(text[start..end].bytes().map(|byte| bytes[usize::from(byte)]));
                }
                (None, Unknown::Token(id)) => ids.extend((!after_unknown).then_some(*id)),
            }
            after_unknown = id.is_none();
        }
    }

    /// The pieces of the best cut, each with where it starts and ends.
    fn best_path(&self, text: &str) -> Vec<(Option<TokenId>, usize, usize)> {
        let mut best: Vec<Option<Best>> = vec![None; text.len() + 1];
        best[0] = Some(Best { score: 0.0, id: None, start: 0 });
        for (start, character) in text.char_indices() {
            // Every character is reached, by a piece or as an unknown one.
            let Some(Best { score: before, .. }) = best[start] else { continue };
            let mut consider = |end: usize, id, score: f64| {
                if best[end].is_none_or(|found| score > f64::from(found.score)) {
                    best[end] = Some(Best { score: score as f32, id, start });
                }
            };
            let mut is_piece = false;
            self.pieces.beginnings(&text.as_bytes()[start..], |id, length| {
                is_piece |= length == character.len_utf8();
                let score = match self.scores[id as usize] {
                    Score::Piece(score) => f64::from(before + score),
                    Score::PerByte(score) => f64::from(length as f32 * score) - 0.1 + f64::from(before),
                };
                consider(start + length, Some(id), score);
            });
            if !is_piece {
                let score = f64::from(before + self.unknown_score);
                consider(start + character.len_utf8(), None, score);
            }
        }
        let mut path = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let Some(Best { id, start, .. }) = best[end] else { break };
            path.push((id, start, end));
            end = start;
        }
        path.reverse();
        path
    }
}

/// The pieces, to be found by what a text begins with.
#[derive(Debug)]
struct Pieces {
    /// Of all tokens.
    texts: ByteStrings,
    /// The pieces, ordered by their texts.
    sorted: Vec<TokenId>,
}

impl Pieces {
    fn new(tokens: &[&str], mut sorted: Vec<TokenId>) -> Self {
        let mut texts = ByteStrings::with_capacity(tokens.len(), tokens.iter().map(|text| text.len()).sum());
        for text in tokens {
            texts.push(text.bytes());
        }
        sorted.retain(|id| !tokens[*id as usize].is_empty());
        sorted.sort_by_key(|id| tokens[*id as usize]);
        Self { texts, sorted }
    }

    /// Hands all pieces that `text` begins with to `found`, the shortest first, with their lengths.
    fn beginnings(&self, text: &[u8], mut found: impl FnMut(TokenId, usize)) {
        let byte_of =
            |id: TokenId, at: usize| self.texts.get(id as usize).and_then(|text| text.get(at).copied());
        // Those that agree with the text so far.
        let mut agreeing = self.sorted.as_slice();
        for (at, byte) in text.iter().enumerate() {
            let from = agreeing.partition_point(|id| byte_of(*id, at) < Some(*byte));
            agreeing = &agreeing[from..];
            let to = agreeing.partition_point(|id| byte_of(*id, at) <= Some(*byte));
            agreeing = &agreeing[..to];
            let Some(&first) = agreeing.first() else { break };
            if self.texts.get(first as usize).is_some_and(|text| text.len() == at + 1) {
                found(first, at + 1);
            }
        }
    }
}

/// How a text is written before pieces are looked for.
#[derive(Debug)]
struct Normalizer {
    rules: Option<Charsmap>,
    /// Tokens that no rule changes.
    kept: SpecialTokens,
    add_space_prefix: bool,
    remove_extra_spaces: bool,
}

impl Normalizer {
    fn new(vocabulary: &Vocabulary<'_>, kinds: &[TokenKind]) -> Result<Self, TokenizerError> {
        let rules = Charsmap::new(vocabulary.charsmap.as_deref().unwrap_or_default())
            .map_err(|problem| vocabulary.invalid(field::CHARSMAP, problem))?;
        let kept = SpecialTokens::new(&vocabulary.tokens, kinds)
            .map_err(|error| vocabulary.invalid(field::TOKENS, error.to_string()))?;
        Ok(Self {
            rules,
            kept,
            add_space_prefix: vocabulary.add_space_prefix.unwrap_or(true),
            remove_extra_spaces: vocabulary.remove_extra_spaces.unwrap_or(true),
        })
    }

    /// Writes `text`; `texts` are those of all tokens.
    fn normalize(&self, text: &str, begins: bool, texts: &ByteStrings) -> String {
        let mut written = Written::new(text.len(), self.remove_extra_spaces);
        for fragment in self.kept.split(text, false) {
            match fragment {
                Fragment::Token(id) => {
                    let text = texts.get(id as usize).unwrap_or_default();
                    written.push(str::from_utf8(text).unwrap_or_default());
                }
                Fragment::Text(part) => self.apply_rules(part, &mut written),
            }
        }
        let mut text = written.finish();
        if !text.is_empty() && begins && self.add_space_prefix {
            text.insert_str(0, SENTENCE_PIECE_SPACE);
        }
        text
    }

    fn apply_rules(&self, mut text: &str, written: &mut Written) {
        while let Some(character) = text.chars().next() {
            let rule = self.rules.as_ref().and_then(|rules| rules.longest(text));
            let (length, replacement) = rule.unwrap_or_else(|| {
                let length = character.len_utf8();
                (length, &text[..length])
            });
            written.push(replacement);
            text = &text[length..];
        }
    }
}

/// A normalised text as it grows, with a sign for spaces.
struct Written {
    text: String,
    /// Whether a space behind another is left out, and one at either end.
    removes_spaces: bool,
    after_space: bool,
}

impl Written {
    fn new(bytes: usize, removes_spaces: bool) -> Self {
        Self { text: String::with_capacity(bytes), removes_spaces, after_space: true }
    }

    fn push(&mut self, part: &str) {
        let leaves_out = self.removes_spaces && self.after_space;
        let part = if leaves_out { part.trim_start_matches(' ') } else { part };
        if let Some(last) = part.chars().next_back() {
            self.after_space = last == ' ';
            self.text.push_str(&part.replace(' ', SENTENCE_PIECE_SPACE));
        }
    }

    fn finish(mut self) -> String {
        if self.removes_spaces {
            self.text.truncate(self.text.trim_end_matches(SENTENCE_PIECE_SPACE).len());
        }
        self.text
    }
}
