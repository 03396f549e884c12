//! `tiktoken.model` and `*.tiktoken`: byte strings by rank, for checkpoints whose own code reads them with tiktoken.
//!
//! A line is a byte string in base64 and its rank, which is its id. How words are cut and what control tokens there are is in
//! the code that comes with the checkpoints: Kimi's and Moonlight's, and Qwen 1's.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Tokenizer;
use super::added_tokens::{ListedTokens, added_tokens};
use super::algorithm::Algorithm;
use super::byte_level;
use super::checkpoint_files::TOKENIZER_CONFIG;
use super::error::TokenizerError;
use super::pre_tokenizer::PreTokenizer;
use super::vocabulary::{TokenKind, Vocabulary, excerpt};
use crate::{Checkpoint, TokenId};

/// Whose code reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Kimi K2, Moonlight.
    Kimi,
    /// Qwen 1.
    Qwen,
}

/// Control tokens of Kimi behind its texts, most of them without a name.
const KIMI_CONTROL_TOKENS: usize = 256;

/// Control tokens of Qwen 1 behind its texts; 205 without a meaning come behind these.
const QWEN_CONTROL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const QWEN_EXTRA_TOKENS: usize = 205;

impl Reader {
    fn algorithm(self) -> Algorithm {
        let (words, composes) = match self {
            Self::Kimi => ("kimi-k2", false),
            Self::Qwen => ("qwen2", true),
        };
        Algorithm::Ranked { words: PreTokenizer::for_name(Some(words)), composes }
    }

    /// The names of the control tokens behind `count` texts.
    fn control_tokens(self, count: usize) -> Vec<String> {
        match self {
            Self::Kimi => {
                let ids = count..count + KIMI_CONTROL_TOKENS;
                ids.map(|id| format!("<|reserved_token_{id}|>")).collect()
            }
            Self::Qwen => {
                let extra = (0..QWEN_EXTRA_TOKENS).map(|number| format!("<|extra_{number}|>"));
                QWEN_CONTROL_TOKENS.into_iter().map(str::to_owned).chain(extra).collect()
            }
        }
    }
}

impl Tokenizer {
    /// The tokenizer in the file at `path`, which `reader` reads; `ends` are tokens that end an answer.
    pub(super) fn from_ranks(
        checkpoint: &Checkpoint,
        path: &Path,
        bytes: &[u8],
        reader: Reader,
        ends: Vec<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let file = path.display().to_string();
        let unusable = |problem: String| TokenizerError::Unusable { file: file.clone(), problem };
        let mut tokens = ranks(bytes).map_err(unusable)?;
        let count = tokens.texts.len();
        for (id, name) in (count..).zip(reader.control_tokens(count)) {
            tokens.put(id, name, TokenKind::Control).map_err(unusable)?;
        }
        for (id, text, kind) in added_tokens(checkpoint, tokens.texts.len())? {
            tokens.put(id, text, kind).map_err(unusable)?;
        }
        let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
        let vocabulary = Vocabulary {
            file: file.clone(),
            bos: tokens.named(&config, "bos_token"),
            eos: tokens.named(&config, "eos_token").or(ends.first().copied()),
            add_bos: Some(config["add_bos_token"].as_bool().unwrap_or(false)),
            also_end: ends.into_iter().filter(|&id| (id as usize) < tokens.texts.len()).collect(),
            tokens: tokens.texts.iter().map(String::as_str).collect(),
            token_types: Some(tokens.kinds),
            ..Vocabulary::default()
        };
        Self::new(&vocabulary, reader.algorithm())
    }
}

/// The byte strings of a file, spelt as texts of tokens.
fn ranks(bytes: &[u8]) -> Result<ListedTokens, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("no text: {error}"))?;
    let mut tokens = ListedTokens::default();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
        let (rank, spelt) = rank(line).ok_or_else(|| {
            format!("line {number} is {}; expected a byte string in base64 and its rank", excerpt(line))
        })?;
        if tokens.has(rank) {
            return Err(format!("line {number}: rank {rank} is there already"));
        }
        tokens.put(rank, spelt, TokenKind::Normal).map_err(|problem| format!("line {number}: {problem}"))?;
    }
    Ok(tokens)
}

fn rank(line: &str) -> Option<(usize, String)> {
    let (token, rank) = line.trim_end().split_once(' ')?;
    Some((rank.parse().ok()?, byte_level::spelt(&STANDARD.decode(token).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kimi's small vocabulary with a damaged `tiktoken.model`.
    fn error(change: impl FnOnce(&str) -> String) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/tokenizers/kimi/tiktoken.model");
        let good = std::fs::read_to_string(path).unwrap();
        std::fs::write(folder.path().join("tiktoken.model"), change(&good)).unwrap();
        let checkpoint = Checkpoint::without_weights(folder.path());
        Tokenizer::from_checkpoint(&checkpoint).unwrap_err().to_string()
    }

    #[test]
    fn a_damaged_file_is_named_with_the_line() {
        for (found, expected) in [
            (
                error(|good| good.replacen("AQ== 1", "AQ== ", 1)),
                "line 2 is \"AQ== \"; expected a byte string",
            ),
            (error(|good| good.replacen("AQ== 1", "AQ= 1", 1)), "line 2 is"),
            (error(|good| good.replacen("AQ== 1", "AQ== 0", 1)), "line 2: rank 0 is there already"),
            (error(|good| good.replacen("AQ== 1", "AQ== 99999999", 1)), "line 2: the token \"ā\" has the id"),
            (error(|good| good.replacen("AQ== 1", "", 1)), "no token is the byte 0x01"),
            (error(|good| good.replacen("AQ== 1", "Ag== 1", 1)), "tokens 1 and 2 are both"),
            (error(|_| String::new()), "no token is the byte 0x00"),
        ] {
            assert!(found.contains("tiktoken.model: ") && found.contains(expected), "{found}\n{expected}");
            assert!(found.len() < 300, "{found}");
        }
    }
}
