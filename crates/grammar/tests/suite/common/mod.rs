//! Tokenizers of every kind, and random answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lookahead_fixtures::{TinyModel, tiny_model};
use lookahead_grammar::{Constraint, Grammars, Scout};
use lookahead_model::TokenId;
use lookahead_model::gguf::{GgufFile, Strings, Writer};
use lookahead_model::tokenizer::{DecodeOptions, Tokenizer};

pub(crate) const CONTROL: i32 = 3;
pub(crate) const USER_DEFINED: i32 = 4;

pub(crate) struct Model {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) grammars: Grammars,
}

impl Model {
    fn new(gguf: Vec<u8>) -> Self {
        let file = GgufFile::from_bytes("tiny", gguf).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file).unwrap());
        // Logits are often wider than the vocabulary.
        let grammars = Grammars::new(&tokenizer, tokenizer.vocabulary_size() + 37).unwrap();
        Self { tokenizer, grammars }
    }

    pub(crate) fn byte_level() -> Self {
        Self::new(tiny_model(&TinyModel::default()))
    }

    pub(crate) fn sentence_piece() -> Self {
        Self::new(tiny_model(&TinyModel { architecture: "gemma3", ..TinyModel::default() }))
    }

    /// A SentencePiece vocabulary of single bytes, some pieces and `others`, each with its token type.
    pub(crate) fn with_tokens(others: &[(&str, i32)], add_space_prefix: bool) -> Self {
        let mut tokens: Vec<(String, i32, f32)> = vec![("</s>".to_owned(), CONTROL, 0.0)];
        tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
        for (rank, piece) in
            ["▁", "na", "name", "me", "\"", "\":", "▁\"", "{\"", "ar", "gu"].iter().enumerate()
        {
            tokens.push(((*piece).to_owned(), 1, -(rank as f32)));
        }
        tokens.extend(others.iter().map(|&(text, kind)| (text.to_owned(), kind, 0.0)));
        let mut writer = Writer::new("tiny");
        writer.metadata("tokenizer.ggml.model", "llama");
        writer.metadata("tokenizer.ggml.tokens", tokens.iter().map(|token| &token.0).collect::<Strings>());
        writer.metadata("tokenizer.ggml.token_type", tokens.iter().map(|token| token.1).collect::<Vec<_>>());
        writer.metadata("tokenizer.ggml.scores", tokens.iter().map(|token| token.2).collect::<Vec<_>>());
        writer.metadata("tokenizer.ggml.eos_token_id", 0_u32);
        writer.metadata("tokenizer.ggml.add_space_prefix", add_space_prefix);
        Self::new(writer.to_bytes())
    }

    /// All of them, by name.
    pub(crate) fn all() -> Vec<(&'static str, Self)> {
        vec![
            ("byte level", Self::byte_level()),
            ("sentence piece", Self::sentence_piece()),
            ("space before text", Self::with_tokens(&[], true)),
        ]
    }

    pub(crate) fn decode(&self, tokens: &[TokenId]) -> String {
        let options = DecodeOptions { show_special: true, continuation: true };
        self.tokenizer.decode(tokens, options)
    }

    pub(crate) fn is_end(&self, token: TokenId) -> bool {
        self.tokenizer.end_of_generation().contains(&token)
    }

    /// Whether `text` is a whole answer that the constraint allows.
    pub(crate) fn allows(&self, constraint: &mut dyn Constraint, text: &str) -> bool {
        let spelt = self.spelling(constraint, text.as_bytes());
        spelt.is_some_and(|spelt| ends(self, constraint, &spelt))
    }

    /// How the constraint lets `text` be spelt: the longest token that it allows at each place.
    pub(crate) fn spelling(&self, constraint: &mut dyn Constraint, mut text: &[u8]) -> Option<Vec<TokenId>> {
        let mut completion = Vec::new();
        while !text.is_empty() {
            let next = allowed(constraint, &completion);
            let fits = next.into_iter().filter(|&token| {
                let bytes = self.tokenizer.token_bytes(token);
                !bytes.is_empty() && text.starts_with(bytes)
            });
            let next = fits.max_by_key(|&token| self.tokenizer.token_bytes(token).len())?;
            text = &text[self.tokenizer.token_bytes(next).len()..];
            completion.push(next);
        }
        Some(completion)
    }

    /// A random answer without the token that ends it. None if it has not ended after `most` tokens.
    pub(crate) fn random_answer(
        &self,
        constraint: &mut dyn Constraint,
        seed: u64,
        most: usize,
    ) -> Option<Vec<TokenId>> {
        let mut random = Random(seed);
        let mut completion = Vec::new();
        while completion.len() < most {
            let allowed = self::allowed(constraint, &completion);
            assert!(!allowed.is_empty(), "nothing is allowed behind {:?}", self.decode(&completion));
            // Long answers are brought to an end.
            let late = completion.len() > most / 4;
            let closing = |bytes: &[u8]| [&b"}"[..], b"]", b"\""].contains(&bytes);
            let ending: Vec<_> = allowed
                .iter()
                .copied()
                .filter(|&token| {
                    let closes =
                        || self.tokenizer.is_control(token) || closing(self.tokenizer.token_bytes(token));
                    self.is_end(token) || (late && closes())
                })
                .collect();
            let choices =
                if !ending.is_empty() && (late || random.below(4) == 0) { &ending } else { &allowed };
            let token = choices[random.below(choices.len())];
            if self.is_end(token) {
                return Some(completion);
            }
            completion.push(token);
        }
        None
    }
}

/// Whether the answer may end behind `completion`.
pub(crate) fn ends(model: &Model, constraint: &mut dyn Constraint, completion: &[TokenId]) -> bool {
    allowed(constraint, completion).into_iter().any(|token| model.is_end(token))
}

/// The tokens that may follow `completion`; none where the constraint fails.
pub(crate) fn allowed(constraint: &mut dyn Constraint, completion: &[TokenId]) -> Vec<TokenId> {
    constraint.allowed(completion).map(tokens).unwrap_or_default()
}

/// All that is forced behind `completion`.
pub(crate) fn forced(scout: &mut dyn Scout, completion: &[TokenId]) -> Vec<TokenId> {
    scout.forced(completion, late())
}

/// How many of `tokens` may follow.
pub(crate) fn accepted(scout: &mut dyn Scout, completion: &[TokenId], tokens: &[TokenId]) -> usize {
    scout.accepted(completion, tokens, late())
}

fn late() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// The tokens of a mask.
pub(crate) fn tokens(mask: &[u32]) -> Vec<TokenId> {
    (0..mask.len() as TokenId * 32).filter(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1).collect()
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// The JSON that `text` is; none if a number in it is larger than serde_json takes.
pub(crate) fn parse(text: &str) -> Option<serde_json::Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(error) => panic!("{text}: {error}"),
    }
}
