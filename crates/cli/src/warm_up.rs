//! Warm-up: a namespace learns texts and earlier answers before the first question.
//!
//! Files hold a JSON object on each line. What a model is likely to say is learned, and nothing else: the fields of
//! [`FIELDS`], and what the assistant says in `messages`. Prompts are not: drafts of a prompt's own words come from
//! the prompt of the request.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use lookahead_engine::Namespace;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::{Map, Value};

use crate::progress;

/// Fields that hold what a model may say: a text or a list of texts each.
const FIELDS: [&str; 4] = ["text", "output", "answer", "reference"];

/// Teaches `namespace` the texts of `files`, with a progress bar on a terminal.
///
/// # Errors
/// If a file cannot be read, a line is no JSON object or a field no text (the message names file and line), or a file
/// holds nothing to learn.
pub(crate) fn warm_up(namespace: &Namespace, tokenizer: &Tokenizer, files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        learn_file(tokenizer, path, |tokens| Ok(namespace.warm_up(tokens)?))?;
    }
    Ok(())
}

/// Calls `learn` with the tokens of each text of the file at `path`.
pub(crate) fn learn_file(
    tokenizer: &Tokenizer,
    path: &Path,
    mut learn: impl FnMut(&[TokenId]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the warm-up file {name}"))?;
    let size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let bar = progress::bytes(format!("Learning {name}"), size_bytes);
    let (mut texts, mut tokens) = (0, 0);
    for (line, number) in BufReader::new(bar.wrap_read(file)).lines().zip(1..) {
        let learn_line = || -> anyhow::Result<()> {
            for text in texts_of(&line?)? {
                let ids = tokenizer.encode(&text, EncodeOptions::default());
                learn(&ids)?;
                texts += 1;
                tokens += ids.len();
            }
            Ok(())
        };
        learn_line().with_context(|| format!("cannot learn from {name}, line {number}"))?;
    }
    bar.finish_and_clear();
    ensure!(
        texts > 0,
        "there is nothing to learn in {name}: no line has text in `{}`, nor in `messages` of role assistant",
        FIELDS.join("`, `")
    );
    tracing::info!(file = %name, texts, tokens, "warmed up");
    Ok(())
}

/// What a model may say, according to one line; nothing for a blank one.
fn texts_of(line: &str) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    if line.trim().is_empty() {
        return Ok(texts);
    }
    let mut record: Map<String, Value> = serde_json::from_str(line)?;
    for field in FIELDS {
        match record.remove(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => texts.push(text),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                texts.extend(list.into_iter().filter_map(into_text));
            }
            Some(_) => bail!("`{field}` is neither a text nor a list of texts"),
        }
    }
    // Contents that are no text (of tool calls, of images) are nothing to draft.
    if let Some(Value::Array(messages)) = record.remove("messages") {
        let said = messages.into_iter().filter(|message| message["role"] == "assistant");
        texts.extend(said.filter_map(|mut message| into_text(message["content"].take())));
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}

fn into_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_learned_and_prompts_are_not() {
        for (line, expected) in [
            (r#"{"text": "a"}"#, &["a"][..]),
            (r#"{"prompt": "no", "output": "a", "reference": ["b", "c"], "id": 7}"#, &["a", "b", "c"]),
            (r#"{"prompt": "no", "answer": "a", "reference": null}"#, &["a"]),
            (
                r#"{"messages": [{"role": "user", "content": "no"}, {"role": "assistant", "content": "a"},
                    {"role": "assistant", "content": null}]}"#,
                &["a"],
            ),
            (r#"{"prompt": "no", "text": ""}"#, &[]),
            ("  ", &[]),
        ] {
            assert_eq!(texts_of(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (line, problem) in [
            ("{", "EOF"),
            ("[1]", "invalid type"),
            (r#"{"text": 3}"#, "`text` is neither"),
            (r#"{"reference": ["a", 3]}"#, "`reference` is neither"),
        ] {
            let error = texts_of(line).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
