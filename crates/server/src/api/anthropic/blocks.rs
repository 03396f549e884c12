//! Turns of blocks: texts, thinking, uses of tools and what they gave back.

use lookahead_model::chat_template::Message;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::conversation::{Part, call_of, name_results, parts, read_role, result_text, unreadable};
use crate::api::warnings::Warnings;
use crate::error::ApiError;

/// A turn of a conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Turn {
    /// `user`, `assistant` or `system`.
    role: String,
    /// What they say: a text, or blocks (`text`, `thinking`, `tool_use`, `tool_result`, …).
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    content: Value,
}

/// The messages of a conversation. The results of a turn become messages of their own.
pub(super) fn read(
    system: &Value,
    turns: &[Turn],
    warnings: &mut Warnings,
) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::with_capacity(turns.len() + 1);
    read_turn("system", system, "system", &mut messages, warnings)?;
    for (index, turn) in turns.iter().enumerate() {
        let role = read_role(&turn.role, &format!("messages[{index}].role"))?;
        let param = format!("messages[{index}].content");
        if role == "assistant" {
            messages.push(read_answer(&turn.content, &param)?);
            continue;
        }
        let before = messages.len();
        read_turn(role, &turn.content, &param, &mut messages, warnings)?;
        if messages.len() == before {
            messages.push(Message::new(role, ""));
        }
    }
    name_results(&mut messages);
    Ok(messages)
}

/// What the assistant said: the texts are pieces of one answer.
fn read_answer(content: &Value, param: &str) -> Result<Message, ApiError> {
    let mut message = Message::new("assistant", "");
    for (index, block) in parts(content, param)?.iter().enumerate() {
        if block["type"] == "tool_use" {
            message.tool_calls.push(call_of(block, &format!("{param}[{index}]"))?);
            continue;
        }
        match Part::read(block) {
            Part::Text(text) => message.content += &text,
            Part::Reasoning(text) => *message.reasoning.get_or_insert_default() += &text,
            Part::Nothing => {}
            Part::Unreadable(kind) => return Err(unreadable(&kind, param, index)),
        }
    }
    Ok(message)
}

/// What others said: each text begins on a line of its own.
fn read_turn(
    role: &str,
    content: &Value,
    param: &str,
    messages: &mut Vec<Message>,
    warnings: &mut Warnings,
) -> Result<(), ApiError> {
    let mut said = String::new();
    for (index, block) in parts(content, param)?.iter().enumerate() {
        if block["type"] == "tool_result" {
            if !said.is_empty() {
                messages.push(Message::new(role, std::mem::take(&mut said)));
            }
            messages.push(read_result(block, &format!("{param}[{index}]"), warnings)?);
            continue;
        }
        match Part::read(block) {
            Part::Text(text) => {
                if !said.is_empty() && !said.ends_with('\n') {
                    said.push('\n');
                }
                said += &text;
            }
            Part::Reasoning(_) | Part::Nothing => {}
            Part::Unreadable(kind) => return Err(unreadable(&kind, param, index)),
        }
    }
    if !said.is_empty() {
        messages.push(Message::new(role, said));
    }
    Ok(())
}

/// What a tool gave back. Templates have no place for "this failed", so the text says it, if it does not itself.
fn read_result(block: &Value, param: &str, warnings: &mut Warnings) -> Result<Message, ApiError> {
    let mut content = result_text(&block["content"], &format!("{param}.content"), warnings)?;
    let says_so = content.chars().take(32).collect::<String>().to_ascii_lowercase().contains("error");
    if block["is_error"] == true && !says_so {
        content.insert_str(0, "Error: ");
    }
    let tool_call_id = block["tool_use_id"].as_str().map(str::to_owned);
    Ok(Message { tool_call_id, ..Message::new("tool", content) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turns(turns: Value) -> Result<Vec<Message>, ApiError> {
        let turns: Vec<Turn> = serde_json::from_value(turns).unwrap();
        read(
            &json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
            &turns,
            &mut Warnings::default(),
        )
    }

    #[test]
    fn blocks_become_messages() {
        let messages = turns(json!([
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me "}, {"type": "text", "text": "see."},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "g", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "42"},
                {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "no such file"}], "is_error": true},
                {"type": "text", "text": "<note>"}, {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": []},
        ]));
        let result = |id: &str, name: &str, content: &str| Message {
            tool_call_id: Some(id.to_owned()),
            name: Some(name.to_owned()),
            ..Message::new("tool", content)
        };
        let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        assert_eq!(
            messages.unwrap(),
            [
                Message::new("system", "a\nb"),
                Message::new("user", "Hi"),
                Message {
                    reasoning: Some("t".to_owned()),
                    tool_calls: vec![call("1", "f", json!({"a": 1})), call("2", "g", json!({}))],
                    ..Message::new("assistant", "Let me see.")
                },
                result("1", "f", "42"),
                result("2", "g", "Error: no such file"),
                Message::new("user", "<note>\nGo on."),
                Message::new("user", ""),
            ]
        );
    }

    #[test]
    fn a_failure_that_says_so_is_left_as_it_is() {
        for (content, expected) in [
            ("<tool_use_error>No.</tool_use_error>", "<tool_use_error>No.</tool_use_error>"),
            ("", "Error: "),
        ] {
            let block =
                json!({"type": "tool_result", "tool_use_id": "1", "content": content, "is_error": true});
            let read = turns(json!([{"role": "user", "content": [block]}])).unwrap();
            assert_eq!(read[1].content, expected);
        }
    }

    #[test]
    fn what_is_wrong_with_a_block_is_named() {
        let image = json!({"type": "image", "source": {"type": "url", "url": "x"}});
        for (turn, place) in [
            (
                json!({"role": "user", "content": [{"type": "text", "text": "x"}, image]}),
                "messages[0].content[1]",
            ),
            (
                json!({"role": "user", "content": [{"type": "tool_result", "content": [image]}]}),
                "messages[0].content[0].content[0]",
            ),
            (
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}),
                "messages[0].content[0]",
            ),
            (json!({"role": "poet", "content": "x"}), "messages[0].role"),
        ] {
            let error = turns(json!([turn])).unwrap_err();
            assert!(error.message().starts_with(place), "{}", error.message());
        }
    }
}
