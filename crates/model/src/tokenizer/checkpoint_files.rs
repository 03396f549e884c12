//! Files of a checkpoint that belong to its tokenizer.

use serde_json::Value;

/// What SentencePiece writes.
pub(super) const TOKENIZER_MODEL: &str = "tokenizer.model";
/// What Mistral writes.
pub(super) const TEKKEN: &str = "tekken.json";
/// What Kimi writes.
pub(super) const TIKTOKEN_MODEL: &str = "tiktoken.model";
/// What Qwen 1's file ends in.
pub(super) const TIKTOKEN_EXTENSION: &str = "tiktoken";
/// Names of special tokens, and the chat template.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The text of a token in `tokenizer_config.json`: a text, or an object with one.
pub(crate) fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}
