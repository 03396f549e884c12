//! A model's tokenizer as llguidance sees it.

use std::sync::Arc;

use lookahead_model::{
    TokenId,
    tokenizer::{EncodeOptions, Tokenizer},
};
use toktrie::{TokRxInfo, TokTrie, TokenizerEnv};

/// The tokens of a model in a trie of their bytes, and how forced text becomes tokens.
pub(crate) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    /// `end` are the tokens that end an answer: at least one.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, size: usize, end: &[TokenId]) -> Self {
        let words: Vec<Vec<u8>> = (0..size as TokenId).map(|id| word(tokenizer, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, end[0]), &words).with_eos_tokens(end);
        Self { tokenizer: Arc::clone(tokenizer), trie }
    }

    /// The control token of that name, if there is one.
    pub(crate) fn control_token(&self, name: &str) -> Option<TokenId> {
        self.trie.get_special_token(name)
    }

    /// The tokens that the model's tokenizer cuts `text` into in the middle of an answer.
    fn encode(&self, text: &str) -> Vec<TokenId> {
        let encode = |text: &str| self.tokenizer.encode(text, EncodeOptions::default()).unwrap_or_default();
        let tokens = encode(text);
        // Some tokenizers take any text for the beginning of one, and put a space before it. Behind a line break there is
        // none: it is a token of its own in such vocabularies.
        self.that_spell(text, &tokens)
            .or_else(|| {
                let behind_break = encode(&format!("\n{text}"));
                let is_break = |&id: &TokenId| self.tokenizer.token_bytes(id).ends_with(b"\n");
                let start = behind_break.iter().position(is_break)? + 1;
                self.that_spell(text, &behind_break[start..])
            })
            // Not the model's own way to spell the text, but one.
            .unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
    }

    /// `tokens`, if they are `text`.
    fn that_spell(&self, text: &str, tokens: &[TokenId]) -> Option<Vec<TokenId>> {
        self.spells(tokens, text).then(|| tokens.to_vec())
    }

    /// Whether `tokens` are `text`.
    pub(crate) fn spells(&self, tokens: &[TokenId], text: &str) -> bool {
        tokens.iter().flat_map(|&id| self.tokenizer.token_bytes(id)).eq(text.as_bytes())
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.encode(text))
    }
}

/// The bytes of a token. Control tokens carry a mark that no text contains, so that no text of a grammar spells them;
/// tokens beyond the tokenizer's have no bytes, and stand nowhere in a grammar.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id);
    if tokenizer.is_control(id) && !bytes.is_empty() {
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat();
    }
    bytes.to_vec()
}
