//! Byte-level BPE: words cut by the pre-tokenizer, spelt byte by byte, merged by rank.

use std::collections::HashMap;

use tokenizers::{
    Model,
    models::bpe::{BPE, Vocab},
};

use super::{
    TokenizerError, byte_level,
    pre_tokenizer::{PreTokenizer, Split, cut},
    vocabulary::{TokenKind, Vocabulary, excerpt, field},
};
use crate::TokenId;

#[derive(Debug)]
pub(super) struct BytePair {
    splits: Vec<Split>,
    model: BPE,
}

impl BytePair {
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        kinds: &[TokenKind],
        ids: &HashMap<&str, TokenId>,
        words: &PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        let invalid = |problem: String| vocabulary.invalid(field::MERGES, problem);
        let Some(listed) = &vocabulary.merges else {
            return Err(invalid("missing; a byte-level vocabulary needs its merges".to_owned()));
        };
        let mut merges = Vec::with_capacity(listed.len());
        for (rank, merge) in listed.iter().enumerate() {
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
                .ok_or_else(|| {
                    invalid(format!(
                        "merge {rank} is {}; expected two tokens with a space between",
                        excerpt(merge)
                    ))
                })?;
            let kind_of = |text: &str| {
                let id = ids.get(text).ok_or_else(|| {
                    invalid(format!("merge {rank} uses {}, which is no token", excerpt(text)))
                })?;
                Ok::<_, TokenizerError>(kinds[*id as usize])
            };
            // Plain text must not become a control token, not even by merging.
            let used = [kind_of(left)?, kind_of(right)?, kind_of(&[left, right].concat())?];
            if used.iter().all(|kind| kind.is_text()) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
        let texts: Vocab = ids
            .iter()
            .filter(|(_, id)| kinds[**id as usize].is_text())
            .map(|(text, id)| ((*text).to_owned(), *id))
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(texts, merges)
            .ignore_merges(words.whole_words_first)
            .cache_capacity(0)
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let splits = words.compile().map_err(|error| vocabulary.invalid(field::PRE, error.to_string()))?;
        Ok(Self { splits, model })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        let mut spelt = String::new();
        for (start, end) in cut(&self.splits, text) {
            spelt.clear();
            byte_level::spell(&text[start..end], &mut spelt);
            let tokens =
                self.model.tokenize(&spelt).map_err(|error| TokenizerError::Encode(error.to_string()))?;
            ids.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }
}
