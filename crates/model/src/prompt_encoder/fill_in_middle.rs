//! Filling in the middle: a model that was trained for it is given what stands before a gap and behind it, with tokens of its
//! own in between, and continues with what is missing.

use crate::TokenId;
use crate::tokenizer::Tokenizer;

/// Names of the tokens before the prefix, before the suffix and before the middle, of the models that have them. Where there is
/// no third, the suffix comes first, and the middle follows the prefix (Codestral).
const NAMES: [(&str, &str, Option<&str>); 7] = [
    ("<|fim_prefix|>", "<|fim_suffix|>", Some("<|fim_middle|>")), // Qwen2.5-Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", Some("<fim_middle>")),       // StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", Some("<fim-middle>")),       // SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", Some("<｜fim▁end｜>")), // DeepSeek-Coder
    ("<|code_prefix|>", "<|code_suffix|>", Some("<|code_middle|>")), // GLM-4
    ("<PRE>", "<SUF>", Some("<MID>")),                            // CodeLlama
    ("[PREFIX]", "[SUFFIX]", None),                               // Codestral
];

/// Names of the token before another file, of the models that have one.
const FILE_NAMES: [&str; 2] = ["<|file_sep|>", "<file_sep>"];

/// The tokens by which a model is asked to fill in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillInMiddle {
    prefix: TokenId,
    suffix: TokenId,
    middle: Option<TokenId>,
    file: Option<TokenId>,
}

impl FillInMiddle {
    /// Those of a tokenizer; `None` for a model that was not trained to fill in the middle.
    pub(super) fn find(tokenizer: &Tokenizer) -> Option<Self> {
        let mut found = [[None; 3]; NAMES.len()];
        let mut file = None;
        for id in 0..tokenizer.vocabulary_size() as TokenId {
            let Ok(name) = str::from_utf8(tokenizer.token_bytes(id)) else { continue };
            let name = name.trim_start_matches(['▁', ' ']); // SentencePiece counts a space in
            if !name.starts_with(['<', '[']) {
                continue;
            }
            if FILE_NAMES.contains(&name) {
                file.get_or_insert(id);
            }
            for (ids, (prefix, suffix, middle)) in found.iter_mut().zip(NAMES) {
                let place =
                    [Some(prefix), Some(suffix), middle].iter().position(|known| *known == Some(name));
                if let Some(place) = place {
                    ids[place].get_or_insert(id);
                }
            }
        }
        found.into_iter().zip(NAMES).find_map(|([prefix, suffix, middle], (.., named))| {
            let is_whole = middle.is_some() || named.is_none();
            is_whole.then_some(Self { prefix: prefix?, suffix: suffix?, middle, file })
        })
    }

    /// The token before another file that the model is shown first.
    pub(super) fn file(self) -> Option<TokenId> {
        self.file
    }

    /// Asks for what stands between `before` and `after`.
    pub(super) fn append(self, prompt: &mut Vec<TokenId>, before: &[TokenId], after: &[TokenId]) {
        let parts: [(TokenId, &[TokenId]); 2] = match self.middle {
            Some(_) => [(self.prefix, before), (self.suffix, after)],
            None => [(self.suffix, after), (self.prefix, before)],
        };
        for (mark, text) in parts {
            prompt.push(mark);
            prompt.extend(text);
        }
        prompt.extend(self.middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{GgufFile, Strings, Writer};

    fn tokenizer(names: &[&str]) -> Tokenizer {
        let mut tokens = vec!["a", "b", "<|endoftext|>"];
        tokens.extend(names);
        let mut writer = Writer::new("tiny.gguf");
        writer
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.pre", "gpt-2")
            .metadata("tokenizer.ggml.tokens", tokens.into_iter().collect::<Strings>())
            .metadata("tokenizer.ggml.merges", Strings::default())
            .metadata("tokenizer.ggml.eos_token_id", 2u32);
        Tokenizer::from_gguf(&GgufFile::from_bytes("tiny.gguf", writer.to_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_tokens_are_found_by_name_and_stand_in_the_order_of_their_model() {
        for (names, prompt) in [
            (&["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"][..], Some(vec![3, 0, 5, 1, 4])),
            (&["<PRE>", "<SUF>", "<MID>"], Some(vec![3, 0, 4, 1, 5])),
            (&["[SUFFIX]", "[PREFIX]"], Some(vec![3, 1, 4, 0])),
            (&["<file_sep>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"], Some(vec![4, 0, 5, 1, 6])),
            (&["<fim_prefix>", "<fim_suffix>"], None),
            (&[], None),
        ] {
            let found = FillInMiddle::find(&tokenizer(names)).map(|fill_in_middle| {
                let mut tokens = Vec::new();
                fill_in_middle.append(&mut tokens, &[0], &[1]);
                tokens
            });
            assert_eq!(found, prompt, "{names:?}");
        }
    }
}
