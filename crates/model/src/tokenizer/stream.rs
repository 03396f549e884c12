//! Text from tokens as they come, never half a character.

use std::{str, sync::Arc};

use super::vocabulary::Pieces;
use crate::TokenId;

/// How tokens are turned into text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Whether control and unknown tokens show as their names, such as `<|im_end|>`. Otherwise they give no
    /// text.
    pub show_special: bool,
    /// Whether the tokens are the continuation of a text and not its beginning. At the beginning, the space
    /// that encoding puts before a text (some SentencePiece models) is taken away again; in a continuation a
    /// leading space belongs to the answer.
    pub continuation: bool,
}

/// Turns tokens into text one by one. A character whose bytes are spread over several tokens comes out whole,
/// with the last of them. The parts together are what [`Tokenizer::decode`](super::Tokenizer::decode) gives
/// for all tokens.
#[derive(Clone, Debug)]
pub struct TokenStream {
    pieces: Arc<Pieces>,
    show_special: bool,
    /// Special tokens that show even where the others do not, ascending.
    shown: Vec<TokenId>,
    /// Whether a space at the very beginning is still to be dropped.
    drop_space: bool,
    /// The beginning of a character whose other bytes have not come yet: at most 3 bytes between calls.
    pending: Vec<u8>,
    text: String,
}

impl TokenStream {
    pub(super) fn new(pieces: Arc<Pieces>, show_special: bool, drop_space: bool) -> Self {
        Self { pieces, show_special, shown: Vec::new(), drop_space, pending: Vec::new(), text: String::new() }
    }

    /// Shows the control tokens of these names, too. Names that no control token has are passed over.
    #[must_use]
    pub fn showing(mut self, names: &[&str]) -> Self {
        let is_named = |id: &TokenId| names.iter().any(|name| self.pieces.bytes(*id) == name.as_bytes());
        self.shown = self.pieces.special().iter().copied().filter(is_named).collect();
        self
    }

    /// Whether `id` is one of the control tokens that [`Self::showing`] was asked for.
    pub fn is_shown_control(&self, id: TokenId) -> bool {
        self.shown.binary_search(&id).is_ok()
    }

    /// Takes the next token and returns the text that is complete now; it may be empty. Bytes that cannot be
    /// part of any character come out as U+FFFD.
    pub fn push(&mut self, id: TokenId) -> &str {
        self.text.clear();
        if self.show_special || !self.pieces.is_special(id) || self.is_shown_control(id) {
            let mut bytes = self.pieces.bytes(id);
            if self.drop_space && !bytes.is_empty() {
                self.drop_space = false;
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
            self.pending.extend_from_slice(bytes);
            self.take_complete();
        }
        &self.text
    }

    /// Ends the stream: a character that was never completed comes out as U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        &self.text
    }

    /// Moves everything but the beginning of an incomplete character from `pending` to `text`.
    fn take_complete(&mut self) {
        let mut rest = self.pending.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, others) = rest.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(valid));
                    rest = others;
                    let Some(invalid) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    rest = &others[invalid..];
                }
            }
        }
        self.pending.drain(..self.pending.len() - rest.len());
    }
}
