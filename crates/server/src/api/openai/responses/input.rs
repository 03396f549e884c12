//! Items of a conversation: messages, thinking, calls of functions and their results.

use std::collections::{HashMap, HashSet};

use lookahead_model::chat_template::Message;
use serde::Deserialize as _;
use serde_json::Value;

use crate::api::conversation::{ChatMessage, call_of, reasoning_of, result_text};
use crate::api::warnings::Warnings;
use crate::error::ApiError;
use crate::stored_responses::StoredResponses;

/// Puts items together to messages.
pub(super) struct Items<'a> {
    messages: Vec<Message>,
    /// The assistant's turn that may go on: thinking, then a text, then calls.
    answer: Option<Message>,
    warnings: &'a mut Warnings,
}

impl<'a> Items<'a> {
    /// No items yet, behind what was said before.
    pub(super) fn behind(messages: Vec<Message>, warnings: &'a mut Warnings) -> Self {
        Self { messages, answer: None, warnings }
    }

    /// Adds what the user says, as a text or as items; references to items are to those of `kept`.
    pub(super) fn add_input(&mut self, input: &Value, kept: &HashMap<String, Value>) -> Result<(), ApiError> {
        match input {
            Value::Null => Ok(()),
            Value::String(text) => {
                self.push(Message::new("user", text.as_str()));
                Ok(())
            }
            Value::Array(items) => {
                let mut named = HashSet::new();
                for (index, item) in items.iter().enumerate() {
                    let param = format!("input[{index}]");
                    let Some(id) = reference(item) else {
                        self.add(item, &param)?;
                        continue;
                    };
                    // Each at most once: a reference is short, and what it names may be long.
                    let wrong = match kept.get(id) {
                        Some(item) if named.insert(id) => {
                            self.add(item, &param)?;
                            continue;
                        }
                        Some(_) => format!("{param}: the item {id:?} is named twice; send the item itself"),
                        None => format!("{param}: no item {id:?} is kept here; send the item itself"),
                    };
                    return Err(ApiError::invalid(&*param, wrong));
                }
                Ok(())
            }
            _ => Err(ApiError::invalid("input", "input must be a text or a list of items")),
        }
    }

    /// Adds an item, of which `param` is the place.
    pub(super) fn add(&mut self, item: &Value, param: &str) -> Result<(), ApiError> {
        let kind = item["type"].as_str();
        match kind {
            None | Some("message") => {
                let message = self.message(item, param)?;
                match &mut self.answer {
                    Some(answer) if message.role == "assistant" && is_silent(answer) => {
                        answer.content = message.content;
                        answer.reasoning = answer.reasoning.take().or(message.reasoning);
                        answer.tool_calls = message.tool_calls;
                    }
                    _ if message.role == "assistant" => self.begin(message),
                    _ => self.push(message),
                }
            }
            Some("reasoning") => match (reasoning_of(item), &mut self.answer) {
                (nothing, _) if nothing.is_empty() => {}
                (more, Some(answer)) if is_silent(answer) => {
                    *answer.reasoning.get_or_insert_default() += &more;
                }
                (text, _) => {
                    self.begin(Message { reasoning: Some(text), ..Message::new("assistant", "") });
                }
            },
            Some("function_call") => {
                let call = call_of(item, param)?;
                let answer = self.answer.get_or_insert_with(|| Message::new("assistant", ""));
                answer.tool_calls.push(call);
            }
            Some("function_call_output") => {
                let content = result_text(&item["output"], &format!("{param}.output"), self.warnings)?;
                let text = |field: &str| item[field].as_str().map(str::to_owned);
                let (tool_call_id, name) = (text("call_id"), text("name"));
                self.push(Message { tool_call_id, name, ..Message::new("tool", content) });
            }
            Some(kind) => {
                let message = format!(
                    "{param}: an item of type {kind:?} is not supported; there are message, reasoning, function_call, \
                     function_call_output and item_reference"
                );
                return Err(ApiError::invalid(param, message));
            }
        }
        Ok(())
    }

    /// All that was said.
    pub(super) fn finish(mut self) -> Vec<Message> {
        self.messages.extend(self.answer.take());
        self.messages
    }

    fn message(&mut self, item: &Value, param: &str) -> Result<Message, ApiError> {
        let message = ChatMessage::deserialize(item).map_err(|error| {
            ApiError::invalid(param, format!("{param} is no item with a type or a role: {error}"))
        })?;
        message.read(param, self.warnings)
    }

    fn push(&mut self, message: Message) {
        self.messages.extend(self.answer.take());
        self.messages.push(message);
    }

    fn begin(&mut self, answer: Message) {
        self.messages.extend(self.answer.replace(answer));
    }
}

/// Whether a turn has said nothing but what was thought.
fn is_silent(answer: &Message) -> bool {
    answer.content.is_empty() && answer.tool_calls.is_empty()
}

/// The item that another one stands for.
fn reference(item: &Value) -> Option<&str> {
    let is_reference = match item["type"].as_str() {
        Some(kind) => kind == "item_reference",
        None => item["role"].is_null(),
    };
    item["id"].as_str().filter(|_| is_reference)
}

/// The items that `input` only names, of those that are kept for `tenant`.
pub(super) fn referenced(input: &Value, tenant: &str, stored: &StoredResponses) -> HashMap<String, Value> {
    let ids: HashSet<&str> = input.as_array().into_iter().flatten().filter_map(reference).collect();
    if ids.is_empty() {
        return HashMap::new();
    }
    let mut items = HashMap::new();
    for response in stored.with_items(tenant, &ids) {
        let mut body: Value = serde_json::from_str(&response.body).unwrap_or_default();
        for item in body["output"].as_array_mut().into_iter().flatten() {
            let id = item["id"].as_str().unwrap_or_default().to_owned();
            if ids.contains(id.as_str()) {
                items.insert(id, item.take());
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: &Value) -> Result<Vec<Message>, ApiError> {
        let mut warnings = Warnings::default();
        let mut items = Items::behind(Vec::new(), &mut warnings);
        let kept = ["msg_1", "msg_2"]
            .map(|id| (id.to_owned(), json!({"type": "message", "role": "assistant", "content": "kept"})));
        let kept = HashMap::from(kept);
        items.add_input(input, &kept)?;
        Ok(items.finish())
    }

    #[test]
    fn an_item_that_is_kept_is_named_once() {
        let twice = json!([{"id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}]);
        let error = read(&twice).unwrap_err();
        assert!(
            error.message().starts_with("input[1]: the item \"msg_1\" is named twice"),
            "{}",
            error.message()
        );
    }

    #[test]
    fn items_become_messages() {
        let call = |id: &str| json!({"type": "function_call", "id": "fc_x", "call_id": id, "name": "f", "arguments": "{}"});
        let called =
            |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let input = json!([
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": null},
            {"type": "message", "role": "assistant", "id": "msg_x", "status": "completed",
                "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
            call("1"),
            call("2"),
            {"type": "function_call_output", "call_id": "1", "output": "42"},
            {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "43"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "u"}]},
            call("3"),
            {"type": "function_call_output", "call_id": "3", "output": ""},
            {"type": "item_reference", "id": "msg_1"},
            {"type": "reasoning", "summary": [], "encrypted_content": "x"},
            {"role": "assistant", "content": "again"},
            {"id": "msg_2"},
        ]);
        let result = |id: &str, content: &str| Message {
            tool_call_id: Some(id.to_owned()),
            ..Message::new("tool", content)
        };
        assert_eq!(
            read(&input).unwrap(),
            [
                Message::new("system", "Be brief."),
                Message::new("user", "Hi"),
                Message {
                    reasoning: Some("t".to_owned()),
                    tool_calls: vec![called("1"), called("2")],
                    ..Message::new("assistant", "Let me see.")
                },
                result("1", "42"),
                result("2", "43"),
                Message {
                    reasoning: Some("u".to_owned()),
                    tool_calls: vec![called("3")],
                    ..Message::new("assistant", "")
                },
                result("3", ""),
                Message::new("assistant", "kept"),
                Message::new("assistant", "again"),
                Message::new("assistant", "kept"),
            ]
        );
        assert_eq!(read(&json!("Hi")).unwrap(), [Message::new("user", "Hi")]);
    }

    #[test]
    fn what_is_wrong_with_an_item_is_named() {
        for (input, place) in [
            (json!(3), "input must be"),
            (
                json!([{"type": "web_search_call", "id": "ws_1"}]),
                "input[0]: an item of type \"web_search_call\"",
            ),
            (json!([{"type": "item_reference", "id": "msg_9"}]), "input[0]: no item \"msg_9\""),
            (json!([{"content": "x"}]), "input[0] is no item"),
            (json!(["x"]), "input[0] is no item"),
            (json!([{"type": "function_call", "call_id": "1"}]), "input[0] is no call"),
            (
                json!([{"role": "user", "content": [{"type": "input_image"}]}]),
                "input[0].content[0]: content of type \"input_image\"",
            ),
            (
                json!([{"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image"}]}]),
                "input[0].output[0]",
            ),
        ] {
            let error = read(&input).unwrap_err();
            assert!(error.message().starts_with(place), "{input}: {}", error.message());
        }
    }
}
