//! What is to be learned of a record: what a model is likely to say.

use serde_json::{Map, Value};

/// Fields that hold what a model may say: a text or a list of texts each.
const FIELDS: [&str; 4] = ["text", "output", "answer", "reference"];
/// Where records tell what was thought.
const THOUGHTS: [&str; 2] = ["reasoning", "reasoning_content"];

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// A field has something else than text.
    #[error("`{0}` is neither a text nor a list of texts")]
    Field(&'static str),
}

/// What a model may say, according to one line of JSON: the fields `text`, `output`, `answer` and `reference`, each a text or
/// a list of texts, what the assistant says in `messages`, and what was thought first, if `reasoning` or `reasoning_content` tells
/// it as a text. Prompts are nothing to learn: drafts of a prompt's own words
/// come from the prompt of the request. A blank line has no texts.
///
/// # Errors
/// If the line is no JSON object, or one of the fields is no text.
pub fn learnable_texts(line: &str) -> Result<Vec<String>, RecordError> {
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
            Some(_) => return Err(RecordError::Field(field)),
        }
    }
    texts.extend(THOUGHTS.into_iter().filter_map(|field| into_text(record.remove(field)?)));
    // Contents that are no text (of tool calls, of images) are nothing to draft.
    if let Some(Value::Array(messages)) = record.remove("messages") {
        for mut message in messages.into_iter().filter(|message| message["role"] == "assistant") {
            let fields = THOUGHTS.into_iter().chain(["content"]);
            texts.extend(fields.filter_map(|field| into_text(message.get_mut(field)?.take())));
        }
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
            (r#"{"text": "a", "reasoning": "b"}"#, &["a", "b"]),
            (r#"{"text": "a", "reasoning": {"effort": "low"}, "reasoning_content": null}"#, &["a"]),
            (
                r#"{"messages": [{"role": "assistant", "reasoning_content": "a", "content": "b"}]}"#,
                &["a", "b"],
            ),
            ("  ", &[]),
        ] {
            assert_eq!(learnable_texts(line).unwrap(), expected, "{line}");
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
            let error = learnable_texts(line).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
