//! A published tokenizer, run by the library that it belongs to: <https://huggingface.co/docs/tokenizers>.

use std::fmt;
use std::sync::OnceLock;

use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl};

use super::error::EncodeError;
use super::reach::Reach;
use super::word_splits::WordSplits;
use crate::TokenId;

/// The library's tokenizer with our way of cutting text into words.
pub(super) type Library =
    TokenizerImpl<ModelWrapper, NormalizerWrapper, WordSplits, PostProcessorWrapper, DecoderWrapper>;

/// A published tokenizer, ready to encode.
pub(super) struct Published {
    /// Finds the names of control tokens in text.
    parsed: Library,
    /// Takes them for text. Made when it is needed: it is as large.
    plain: OnceLock<Library>,
    /// Whether text is encoded as if a space stood before it.
    pub(super) adds_space_prefix: bool,
    /// How much of a text one token stands for, where that is known.
    pub(super) reach: Option<Reach>,
}

impl Published {
    pub(super) fn new(parsed: Library, adds_space_prefix: bool, reach: Option<Reach>) -> Self {
        Self { parsed, plain: OnceLock::new(), adds_space_prefix, reach }
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(
        &self,
        text: &str,
        parse_special: bool,
        ids: &mut Vec<TokenId>,
    ) -> Result<(), EncodeError> {
        let tokenizer = if parse_special {
            &self.parsed
        } else {
            self.plain.get_or_init(|| {
                let mut plain = self.parsed.clone();
                plain.set_encode_special_tokens(true);
                plain
            })
        };
        let encoding = tokenizer
            .encode_fast(text, false)
            .map_err(|problem| EncodeError { bytes: text.len(), problem: problem.to_string() })?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("tokens", &self.parsed.get_vocab_size(true)).finish_non_exhaustive()
    }
}
