//! `tekken.json`: how Mistral publishes the vocabularies of its newer models.
//!
//! The format is that of <https://github.com/mistralai/mistral-common>: byte strings by rank, of which the first so many are used,
//! behind the control tokens. No text becomes a control token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Tokenizer;
use super::added_tokens::{ListedTokens, MAX_GAPS};
use super::algorithm::Algorithm;
use super::byte_level;
use super::checkpoint_files::TEKKEN;
use super::error::TokenizerError;
use super::pre_tokenizer::PreTokenizer;
use super::vocabulary::{TokenKind, Vocabulary, excerpt};
use crate::{Checkpoint, TokenId};

/// The control tokens of files that list none.
const OLDER_CONTROL_TOKENS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

#[derive(Deserialize)]
struct Tekken {
    config: Config,
    vocab: Vec<Text>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: usize,
    default_num_special_tokens: usize,
}

#[derive(Deserialize)]
struct Text {
    rank: usize,
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    rank: usize,
    token_str: String,
}

impl Tokenizer {
    /// The tokenizer in `tekken.json`; `ends` are tokens that end an answer.
    pub(super) fn from_tekken(
        checkpoint: &Checkpoint,
        bytes: &[u8],
        ends: Vec<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let file = checkpoint.folder().join(TEKKEN).display().to_string();
        let unusable = |problem: String| TokenizerError::Unusable { file: file.clone(), problem };
        let tekken: Tekken = serde_json::from_slice(bytes).map_err(|error| unusable(error.to_string()))?;
        let pattern = &tekken.config.pattern;
        let words = PreTokenizer::for_pattern(pattern)
            .ok_or_else(|| unusable(format!("words are cut by {}, which is not known", excerpt(pattern))))?;
        let tokens = tekken.tokens().map_err(unusable)?;
        let id = |name: &str| tokens.texts.iter().position(|text| text == name).map(|id| id as TokenId);
        let vocabulary = Vocabulary {
            file: file.clone(),
            bos: id("<s>"),
            eos: id("</s>"),
            unknown: id("<unk>"),
            add_bos: Some(true),
            also_end: ends.into_iter().filter(|&id| (id as usize) < tokens.texts.len()).collect(),
            tokens: tokens.texts.iter().map(String::as_str).collect(),
            token_types: Some(tokens.kinds),
            ..Vocabulary::default()
        };
        Self::new(&vocabulary, Algorithm::Ranked { words, composes: false })
    }
}

impl Tekken {
    /// The control tokens, then the texts.
    fn tokens(self) -> Result<ListedTokens, String> {
        let Config { default_vocab_size: size, default_num_special_tokens: control, .. } = self.config;
        let mut tokens = ListedTokens::default();
        let older = || OLDER_CONTROL_TOKENS.into_iter().map(str::to_owned).enumerate().collect();
        let listed: Vec<(usize, String)> = self.special_tokens.map_or_else(older, |special| {
            special.into_iter().map(|token| (token.rank, token.token_str)).collect()
        });
        if control > listed.len() + MAX_GAPS {
            return Err(format!("there are {control} control tokens, of which {} have names", listed.len()));
        }
        for (id, name) in listed {
            if id >= control || tokens.has(id) {
                return Err(format!(
                    "the control token {} has rank {id} of {control}, or another has it",
                    excerpt(&name)
                ));
            }
            tokens.put(id, name, TokenKind::Control)?;
        }
        for id in 0..control {
            if !tokens.has(id) {
                tokens.put(id, format!("<SPECIAL_{id}>"), TokenKind::Control)?;
            }
        }
        for Text { rank, token_bytes } in self.vocab {
            let Some(id) = rank.checked_add(control).filter(|id| *id < size) else { continue };
            let bytes = STANDARD
                .decode(&token_bytes)
                .ok()
                .ok_or_else(|| format!("the token of rank {rank} is {}, no base64", excerpt(&token_bytes)))?;
            if tokens.has(id) {
                return Err(format!("rank {rank} is there twice"));
            }
            tokens.put(id, byte_level::spelt(&bytes), TokenKind::Normal)?;
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The error of the small vocabulary with another value at some place.
    fn error(place: &str, value: Value) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/tokenizers/tekken/tekken.json");
        let mut tekken: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        *tekken.pointer_mut(place).unwrap() = value;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TEKKEN), tekken.to_string()).unwrap();
        Tokenizer::from_checkpoint(&Checkpoint::without_weights(folder.path())).unwrap_err().to_string()
    }

    #[test]
    fn a_damaged_file_is_named_with_what_is_wrong() {
        for (place, value, expected) in [
            ("/config/pattern", json!("[a-z]+(?=x)"), "words are cut by \"[a-z]+(?=x)\", which is not known"),
            ("/config/default_num_special_tokens", json!(99_999_999), "99999999 control tokens, of which 5"),
            ("/config/default_num_special_tokens", json!(2), "\"</s>\" has rank 2 of 2"),
            ("/config/default_vocab_size", json!(30), "no token is the byte 0x0A"),
            ("/vocab/7/token_bytes", json!("?"), "the token of rank 7 is \"?\", no base64"),
            ("/vocab/7/rank", json!(6), "rank 6 is there twice"),
            ("/special_tokens/1/rank", json!(0), "\"<s>\" has rank 0"),
            ("/special_tokens/1/token_str", json!("<unk>"), "tokens 0 and 1 are both \"<unk>\""),
            ("/vocab", json!(3), "invalid type"),
        ] {
            let found = error(place, value);
            assert!(found.contains("tekken.json: ") && found.contains(expected), "{found}\n{expected}");
        }
    }
}
