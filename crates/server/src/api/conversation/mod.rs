//! Conversations as clients send them, whatever wire they come by: roles, contents of text and parts, thinking, calls of
//! functions and their results, definitions of functions and which of them may be called.
//!
//! Clients replay what servers have sent them, so all forms that are in use are read by all wires. What carries text is text,
//! what carries thinking is reasoning, and what a model of text cannot read is refused by its name.

mod calls;
mod content;
mod message;
mod role;
mod thinking;
mod tool_choice;
mod tools;

use std::collections::HashMap;

use lookahead_model::chat_template::Message;

use super::warnings::Warnings;
use crate::error::ApiError;

pub(in crate::api) use self::calls::call_of;
pub(in crate::api) use self::content::{Part, Said, parts, reasoning_of, result_text, unreadable};
pub(in crate::api) use self::message::ChatMessage;
pub(in crate::api) use self::role::read_role;
pub(in crate::api) use self::thinking::set_thinking;
pub(in crate::api) use self::tools::ToolFields;

/// The messages of a chat.
pub(in crate::api) fn read_messages(
    messages: Vec<ChatMessage>,
    warnings: &mut Warnings,
) -> Result<Vec<Message>, ApiError> {
    let messages = messages.into_iter().enumerate();
    let messages = messages.map(|(at, message)| message.read(&format!("messages[{at}]"), warnings));
    let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
    name_results(&mut messages);
    Ok(messages)
}

/// Gives results of functions the names of their functions where they only say which call they answer: some templates show
/// names.
///
/// A name that is longer than any function's is not repeated: a small request would take the memory of a large one.
pub(in crate::api) fn name_results(messages: &mut [Message]) {
    const MAX_NAME_BYTES: usize = 256;
    let mut names = HashMap::new();
    for message in messages {
        for call in &message.tool_calls {
            if let (Some(id), Some(name)) = (call["id"].as_str(), call["function"]["name"].as_str())
                && name.len() <= MAX_NAME_BYTES
            {
                names.insert(id.to_owned(), name.to_owned());
            }
        }
        if message.role == "tool" && message.name.is_none() {
            let id = message.tool_call_id.as_deref();
            message.name = id.and_then(|id| names.get(id)).cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_get_the_names_of_their_functions_unless_those_are_too_long_for_one() {
        for (bytes, is_named) in [(1, true), (256, true), (257, false)] {
            let name = "n".repeat(bytes);
            let called = Message {
                tool_calls: vec![json!({ "id": "1", "function": { "name": name } })],
                ..Message::new("assistant", "")
            };
            let result = Message { tool_call_id: Some("1".to_owned()), ..Message::new("tool", "x") };
            let mut messages = [called, result];
            name_results(&mut messages);
            assert_eq!(messages[1].name, is_named.then_some(name));
        }
    }
}
