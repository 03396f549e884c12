//! Files of token ids, for models that are fed tokens and no text.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use lookahead_model::TokenId;
use serde_json::Value;

/// Reads a JSON array of token ids.
pub(crate) fn read_ids(path: &Path) -> anyhow::Result<Vec<TokenId>> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read token ids from {name}"))?;
    let json: Value = serde_json::from_slice(&text).with_context(|| format!("{name} is not JSON"))?;
    let Value::Array(elements) = json else { bail!("{name}: expected a JSON array of token ids") };
    ensure!(!elements.is_empty(), "{name}: the array of token ids is empty");
    let ids = elements.iter().enumerate().map(|(index, element)| {
        let id = element.as_u64().and_then(|id| TokenId::try_from(id).ok());
        id.with_context(|| format!("{name}: element {index} is {element}, not a token id"))
    });
    ids.collect()
}

/// Refuses ids that a model with `vocabulary_size` tokens cannot be fed.
pub(crate) fn check_vocabulary(ids: &[TokenId], vocabulary_size: usize) -> anyhow::Result<()> {
    match ids.iter().enumerate().find(|(_, id)| **id as usize >= vocabulary_size) {
        Some((index, id)) => {
            bail!("element {index} is {id}, outside the vocabulary of {vocabulary_size} tokens")
        }
        None => Ok(()),
    }
}
