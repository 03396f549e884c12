//! Tokens by id, as the files of a checkpoint list them one by one, and those that a checkpoint adds to its vocabulary.

use serde_json::Value;

use super::checkpoint_files::{TOKENIZER_CONFIG, token_name};
use super::error::TokenizerError;
use super::vocabulary::{TokenKind, excerpt};
use crate::{Checkpoint, TokenId};

/// Tokens that the checkpoint adds, in older ones.
const ADDED_TOKENS: &str = "added_tokens.json";

/// How many ids may be without a token. More are a mistake.
pub(super) const MAX_GAPS: usize = 100_000;

/// What the code that comes with ChatGLM's checkpoints adds behind the file's tokens.
const CHATGLM_TOKENS: [&str; 9] = [
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
];

/// Texts and kinds by id. Ids that are never listed stand for nothing.
#[derive(Debug, Default)]
pub(super) struct ListedTokens {
    pub(super) texts: Vec<String>,
    pub(super) kinds: Vec<i32>,
    listed: usize,
}

impl ListedTokens {
    /// Sets the token of an id.
    ///
    /// # Errors
    /// If the id is far beyond the others.
    pub(super) fn put(&mut self, id: usize, text: String, kind: TokenKind) -> Result<(), String> {
        if id > self.listed + MAX_GAPS {
            return Err(format!(
                "the token {} has the id {id}, and there are {} tokens",
                excerpt(&text),
                self.listed
            ));
        }
        while self.texts.len() <= id {
            self.texts.push(format!("<unused id {}>", self.texts.len()));
            self.kinds.push(TokenKind::Unused as i32);
        }
        (self.texts[id], self.kinds[id]) = (text, kind as i32);
        self.listed += 1;
        Ok(())
    }

    /// Whether the id has a token.
    pub(super) fn has(&self, id: usize) -> bool {
        self.kinds.get(id).is_some_and(|kind| *kind != TokenKind::Unused as i32)
    }

    /// The id of the token that `name` in `tokenizer_config.json` names.
    pub(super) fn named(&self, config: &Value, name: &str) -> Option<TokenId> {
        let text = token_name(config.get(name)?)?;
        let is_control = |id: usize| self.kinds[id] != TokenKind::Normal as i32;
        let mut found = (0..self.texts.len()).filter(|&id| self.texts[id] == text);
        // A control token may have a namesake among the texts.
        let first = found.next()?;
        Some(found.find(|&id| is_control(id) && !is_control(first)).unwrap_or(first) as TokenId)
    }
}

/// What the checkpoint adds to the `count` tokens of its vocabulary, by id.
pub(super) fn added_tokens(
    checkpoint: &Checkpoint,
    count: usize,
) -> Result<Vec<(usize, String, TokenKind)>, TokenizerError> {
    let mut added = Vec::new();
    if checkpoint.model_type().is_ok_and(|family| family == "chatglm") {
        added.extend(
            (count..).zip(CHATGLM_TOKENS).map(|(id, text)| (id, text.to_owned(), TokenKind::Control)),
        );
    }
    let config = checkpoint.json(TOKENIZER_CONFIG)?.unwrap_or_default();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        if let (Ok(id), Some(text)) = (id.parse(), token_name(token)) {
            let is_special = token["special"] == true;
            let kind = if is_special { TokenKind::Control } else { TokenKind::UserDefined };
            added.push((id, text.to_owned(), kind));
        }
    }
    let older = checkpoint.json(ADDED_TOKENS)?.unwrap_or_default();
    for (text, id) in older.as_object().into_iter().flatten() {
        if let Some(id) = id.as_u64() {
            added.push((id as usize, text.clone(), TokenKind::Control));
        }
    }
    added.sort_by(|(id, text, _), (other, others, _)| (id, text).cmp(&(other, others)));
    added.dedup_by_key(|(id, ..)| *id);
    Ok(added)
}
