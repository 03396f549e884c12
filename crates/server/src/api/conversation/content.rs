//! What a message says: a text, or parts of several kinds.

use serde_json::Value;

use crate::api::warnings::Warnings;
use crate::error::ApiError;

/// What a message says, and what its author thought before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Said {
    pub(in crate::api) text: String,
    pub(in crate::api) reasoning: String,
}

/// What a part of a content holds.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) enum Part {
    Text(String),
    Reasoning(String),
    /// Nothing that a model could read, and nothing that it misses.
    Nothing,
    /// Something of this kind, which models of text cannot read.
    Unreadable(String),
}

/// Parts that stand beside what they repeat, or that nobody can read.
const NOTHING: [&str; 6] =
    ["redacted_thinking", "redacted_reasoning", "tool_use", "tool_call", "function_call", "cache_point"];

impl Said {
    /// What a content says, of which `param` is the place; `null` is empty.
    pub(in crate::api) fn read(content: &Value, param: &str) -> Result<Self, ApiError> {
        let mut said = Self::default();
        for (index, part) in parts(content, param)?.iter().enumerate() {
            match Part::read(part) {
                Part::Text(text) => said.text += &text,
                Part::Reasoning(text) => said.reasoning += &text,
                Part::Nothing => {}
                Part::Unreadable(kind) => return Err(unreadable(&kind, param, index)),
            }
        }
        Ok(said)
    }
}

/// The text of what a function gave back. What cannot be read is left out beside text, with a warning.
pub(in crate::api) fn result_text(
    content: &Value,
    param: &str,
    warnings: &mut Warnings,
) -> Result<String, ApiError> {
    let (mut result, mut first_unreadable) = (String::new(), None);
    for (index, part) in parts(content, param)?.iter().enumerate() {
        match Part::read(part) {
            Part::Text(text) => result += &text,
            Part::Reasoning(_) | Part::Nothing => {}
            Part::Unreadable(kind) => {
                warnings.add(format!("{param}[{index}]: a part of type {kind:?} is left out"));
                first_unreadable.get_or_insert((kind, index));
            }
        }
    }
    match first_unreadable {
        Some((kind, index)) if result.trim().is_empty() => Err(unreadable(&kind, param, index)),
        _ => Ok(result),
    }
}

/// The parts of a content; a text is one.
pub(in crate::api) fn parts<'a>(content: &'a Value, param: &str) -> Result<&'a [Value], ApiError> {
    match content {
        Value::Null => Ok(&[]),
        Value::String(_) | Value::Object(_) => Ok(std::slice::from_ref(content)),
        Value::Array(parts) => Ok(parts),
        Value::Bool(_) | Value::Number(_) => {
            let message = format!("{param} is {content}; it must be a text or a list of parts");
            Err(ApiError::invalid(param, message))
        }
    }
}

/// The error for a part that cannot be read.
pub(in crate::api) fn unreadable(kind: &str, param: &str, index: usize) -> ApiError {
    let param = format!("{param}[{index}]");
    let message = format!("{param}: content of type {kind:?} is not supported; this model reads text");
    ApiError::invalid(param, message)
}

impl Part {
    /// What a part holds.
    pub(in crate::api) fn read(part: &Value) -> Self {
        if let Value::String(text) = part {
            return Part::Text(text.clone());
        }
        let text = |field: &str| part[field].as_str().map(|text| Part::Text(text.to_owned()));
        let kind = part["type"].as_str();
        let read = match kind {
            Some("text" | "input_text" | "output_text" | "summary_text") | None => text("text"),
            Some("refusal") => text("refusal"),
            Some("thinking" | "reasoning" | "reasoning_text" | "reasoning_content") => {
                Some(Part::Reasoning(reasoning_of(part)))
            }
            // Anthropic's, of plain text.
            Some("document") if part["source"]["type"] == "text" => {
                part["source"]["data"].as_str().map(|text| Part::Text(text.to_owned()))
            }
            Some("search_result") => Some(Part::Text(texts_of(&part["content"]))),
            Some(kind) if NOTHING.contains(&kind) => Some(Part::Nothing),
            Some(_) => None,
        };
        read.unwrap_or_else(|| Part::Unreadable(kind.unwrap_or("(none)").to_owned()))
    }
}

/// The thinking of a part, wherever its server has put it.
pub(in crate::api) fn reasoning_of(part: &Value) -> String {
    let fields = ["thinking", "reasoning", "reasoning_content", "text", "content", "summary"];
    fields.iter().map(|field| texts_of(&part[field])).find(|text| !text.is_empty()).unwrap_or_default()
}

/// A text, or the texts of a list of parts.
pub(super) fn texts_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let text = |part: &Value| part.as_str().or_else(|| part["text"].as_str()).map(str::to_owned);
            parts.iter().filter_map(text).collect()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_carries_text_is_text_and_what_carries_thinking_is_reasoning() {
        for (content, text, reasoning) in [
            (json!(null), "", ""),
            (json!(""), "", ""),
            (json!("a"), "a", ""),
            (json!([]), "", ""),
            (json!(["a", "b"]), "ab", ""),
            (json!({"type": "text", "text": "a"}), "a", ""),
            (
                json!([{"text": "a"}, {"type": "input_text", "text": "b"}, {"type": "output_text", "text": "c"}]),
                "abc",
                "",
            ),
            (json!([{"type": "refusal", "refusal": "no"}]), "no", ""),
            (
                json!([{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "a"}]),
                "a",
                "t",
            ),
            (json!([{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, "a"]), "a", "t"),
            (json!([{"type": "reasoning", "text": "t"}, {"type": "reasoning_text", "text": "u"}]), "", "tu"),
            (json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]}]), "", "t"),
            (
                json!([{"type": "redacted_thinking", "data": "x"}, {"type": "tool_use", "id": "1", "name": "f"}]),
                "",
                "",
            ),
            (json!([{"type": "document", "source": {"type": "text", "data": "d"}}]), "d", ""),
            (
                json!([{"type": "search_result", "title": "t", "content": [{"type": "text", "text": "d"}]}]),
                "d",
                "",
            ),
        ] {
            let said = Said::read(&content, "content").unwrap();
            assert_eq!((&*said.text, &*said.reasoning), (text, reasoning), "{content}");
        }
    }

    #[test]
    fn what_a_model_of_text_cannot_read_is_refused_by_its_name_and_place() {
        for (content, place, name) in [
            (json!(3), "messages[0].content", "3"),
            (json!(true), "messages[0].content", "true"),
            (
                json!(["a", {"type": "image_url", "image_url": {"url": "x"}}]),
                "messages[0].content[1]",
                "image_url",
            ),
            (json!([{"type": "input_audio"}]), "messages[0].content[0]", "input_audio"),
            (json!([{"type": "file", "text": "x"}]), "messages[0].content[0]", "file"),
            (
                json!([{"type": "document", "source": {"type": "base64"}}]),
                "messages[0].content[0]",
                "document",
            ),
            (json!([{"type": "text"}]), "messages[0].content[0]", "text"),
            (json!([{"type": "text", "text": 3}]), "messages[0].content[0]", "text"),
            (json!([{}]), "messages[0].content[0]", "(none)"),
            (json!([null]), "messages[0].content[0]", "(none)"),
            (json!([["a"]]), "messages[0].content[0]", "(none)"),
        ] {
            let error = Said::read(&content, "messages[0].content").unwrap_err();
            assert!(error.message().starts_with(place), "{content}: {}", error.message());
            assert!(error.message().contains(name), "{content}: {}", error.message());
        }
    }

    #[test]
    fn an_image_in_a_result_is_left_out_beside_text_and_refused_alone() {
        let image = json!({"type": "image", "source": {"type": "base64", "data": "x"}});
        let mut warnings = Warnings::default();
        let beside = json!([{"type": "text", "text": "a chart"}, image]);
        assert_eq!(result_text(&beside, "content", &mut warnings).unwrap(), "a chart");
        assert!(format!("{warnings:?}").contains("content[1]"), "{warnings:?}");
        for alone in [json!([image]), json!([" \n", image])] {
            assert!(result_text(&alone, "content", &mut Warnings::default()).is_err(), "{alone}");
        }
        assert_eq!(result_text(&json!(null), "content", &mut Warnings::default()).unwrap(), "");
    }
}
