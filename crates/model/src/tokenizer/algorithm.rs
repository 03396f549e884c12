//! How a vocabulary turns text into tokens: the table behind `tokenizer.ggml.model`.

use super::error::TokenizerError;
use super::pre_tokenizer::PreTokenizer;
use super::vocabulary::{Spelling, Vocabulary, excerpt, field};

/// How text becomes tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Algorithm {
    /// Words are merged by a list of merges.
    BytePair(&'static PreTokenizer),
    /// Words are merged by the order of the tokens alone.
    Ranked { words: &'static PreTokenizer, composes: bool },
    /// Neighbours are merged by their score.
    SentencePiece,
    /// The tokens with the best sum of scores.
    Unigram,
}

impl Algorithm {
    /// The algorithm that the metadata names.
    pub(super) fn of(vocabulary: &Vocabulary<'_>) -> Result<Self, TokenizerError> {
        match vocabulary.model {
            "gpt2" => Ok(Self::BytePair(PreTokenizer::for_name(vocabulary.pre))),
            "gemma4" => Ok(Self::BytePair(PreTokenizer::for_name(Some("gemma4")))),
            "llama" => Ok(Self::SentencePiece),
            "t5" => Ok(Self::Unigram),
            other => {
                let problem = format!(
                    "{} is not supported; supported: gpt2 (byte-level BPE), gemma4 (BPE of characters), llama \
                     (SentencePiece), t5 (Unigram)",
                    excerpt(other)
                );
                Err(vocabulary.invalid(field::MODEL, problem))
            }
        }
    }

    pub(super) fn spelling(self) -> Spelling {
        match self {
            Self::BytePair(words) if words.spells_characters => Spelling::SentencePiece,
            Self::BytePair(_) | Self::Ranked { .. } => Spelling::ByteLevel,
            Self::SentencePiece | Self::Unigram => Spelling::SentencePiece,
        }
    }
}
