//! SentencePiece BPE by scores: of all neighbouring pairs that spell a token, merge the best-scored, leftmost
//! first.
//!
//! The order follows the scores of the merged tokens and, between equal scores, the place in the text. Ranked
//! merges (the `tokenizers` crate's BPE) cannot say the second: `aa a` and `a aa` would need one rank for two
//! pairs. Hence this loop. Source: Kudo & Richardson, "SentencePiece" (EMNLP 2018), section 3.1; `llama.cpp`
//! does the same.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use super::{
    TokenizerError,
    vocabulary::{SENTENCE_PIECE_SPACE, TokenKind, Vocabulary, byte_token, field},
};
use crate::TokenId;

#[derive(Debug)]
pub(super) struct SentencePiece {
    /// Id and score of every token that plain text may become.
    tokens: HashMap<Box<str>, (TokenId, f32)>,
    /// Bytes of the longest of them: longer pairs need no lookup.
    longest_bytes: usize,
    /// The token of each byte, for characters that are no token.
    bytes: Box<[TokenId; 256]>,
    add_space_prefix: bool,
}

/// A run of characters: one at first, growing to the right as it is merged.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// Equal to `start` once the symbol was merged into its left neighbour.
    end: usize,
    previous: usize,
    next: usize,
}

/// No neighbour.
const NONE: usize = usize::MAX;

/// Two neighbours that together spell a token.
#[derive(Clone, Copy, PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Where the right neighbour ended when the pair was found: it is stale if that has changed.
    end: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left)).then(self.end.cmp(&other.end))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SentencePiece {
    pub(super) fn new(vocabulary: &Vocabulary<'_>, kinds: &[TokenKind]) -> Result<Self, TokenizerError> {
        let scores = vocabulary.scores.as_deref().ok_or_else(|| {
            vocabulary
                .invalid(field::SCORES, "missing; a SentencePiece vocabulary needs a score for each token")
        })?;
        if scores.len() != vocabulary.tokens.len() {
            let problem = format!("{} scores for {} tokens", scores.len(), vocabulary.tokens.len());
            return Err(vocabulary.invalid(field::SCORES, problem));
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(vocabulary.invalid(field::SCORES, format!("the score of token {id} is not a number")));
        }

        let mut tokens = HashMap::with_capacity(vocabulary.tokens.len());
        let mut longest_bytes = 0;
        let mut bytes: [Option<TokenId>; 256] = [None; 256];
        for ((id, &text), (kind, score)) in (0..).zip(&vocabulary.tokens).zip(kinds.iter().zip(scores)) {
            if kind.is_text() && !text.is_empty() {
                longest_bytes = longest_bytes.max(text.len());
                tokens.insert(text.into(), (id, score + 0.0)); // -0.0 becomes 0.0: they are one score
            } else if *kind == TokenKind::Byte
                && let Some(byte) = byte_token(text)
            {
                bytes[usize::from(byte)] = Some(id);
            }
        }

        let unknown = vocabulary.unknown;
        let mut complete = Box::new([0; 256]);
        for (byte, (id, known)) in complete.iter_mut().zip(bytes).enumerate() {
            *id = known.or(unknown).ok_or_else(|| {
                let problem = format!("neither byte token <0x{byte:02X}> nor an unknown token");
                vocabulary.invalid(field::TOKENS, problem)
            })?;
        }
        let add_space_prefix = vocabulary.add_space_prefix.unwrap_or(true);
        Ok(Self { tokens, longest_bytes, bytes: complete, add_space_prefix })
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
        for Symbol { start, end, .. } in self.merge(&spelt) {
            if start == end {
                continue;
            }
            match self.tokens.get(&spelt[start..end]) {
                Some(&(id, _)) => ids.push(id),
                None => ids.extend(spelt[start..end].bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }

    /// The characters of `spelt`, merged as far as the vocabulary allows.
    fn merge(&self, spelt: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = spelt
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start,
                end: start + character.len_utf8(),
                previous: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
            })
            .collect();
        let Some(last) = symbols.last_mut() else { return symbols };
        last.next = NONE;

        let pair = |symbols: &[Symbol], left: usize, right: usize| {
            let (start, end) = (symbols.get(left)?.start, symbols.get(right)?.end);
            if end - start > self.longest_bytes {
                return None;
            }
            let &(_, score) = self.tokens.get(&spelt[start..end])?;
            Some(Pair { score, left, right, end })
        };
        let mut pairs: BinaryHeap<Pair> =
            (1..symbols.len()).filter_map(|right| pair(&symbols, right - 1, right)).collect();
        while let Some(Pair { left, right, end, .. }) = pairs.pop() {
            let (l, r) = (symbols[left], symbols[right]);
            // Stale where the left one was merged away, has itself grown, or the right one has.
            if l.start == l.end || l.next != right || r.end != end {
                continue;
            }
            symbols[left] = Symbol { end, next: r.next, ..l };
            symbols[right].end = r.start;
            if let Some(next) = symbols.get_mut(r.next) {
                next.previous = left;
            }
            pairs.extend(pair(&symbols, l.previous, left));
            pairs.extend(pair(&symbols, left, r.next));
        }
        symbols
    }
}
