//! Tools for models whose chat template has no place for them: told, called and answered in the text of messages, as
//! the Hermes models were first trained to do.

use std::fmt::Write as _;
use std::mem;

use serde_json::{Value, json};

use super::chat::Chat;
use crate::chat_template::{Message, json::python_json};
use crate::tool_calls::{CALL_BEGIN, CALL_END};

/// Rewrites `chat` so that it has no tools: a system message describes them, calls are part of what the assistant
/// said, and the user tells the results, those of one turn in one message.
pub(super) fn rewrite(chat: &mut Chat) {
    let tools = mem::take(&mut chat.tools);
    let mut messages: Vec<Message> = Vec::with_capacity(chat.messages.len() + 1);
    let mut after_result = false;
    for mut message in mem::take(&mut chat.messages) {
        let is_result = message.role == "tool";
        if is_result {
            message = Message::new("user", format!("<tool_response>\n{}\n</tool_response>", message.content));
        }
        for call in mem::take(&mut message.tool_calls) {
            message.append("\n", &call_text(&call));
        }
        match messages.last_mut() {
            Some(results) if is_result && after_result => {
                results.append("\n", &message.content);
            }
            _ => messages.push(message),
        }
        after_result = is_result;
    }
    if !tools.is_empty() {
        if messages.first().is_none_or(|first| first.role != "system") {
            messages.insert(0, Message::new("system", ""));
        }
        messages[0].append("\n\n", &description(&tools));
    }
    chat.messages = messages;
}

fn call_text(call: &Value) -> String {
    let function = call.get("function").unwrap_or(call);
    let call = json!({ "name": function["name"], "arguments": function["arguments"] });
    format!("{CALL_BEGIN}\n{}\n{CALL_END}", python_json(&call))
}

fn description(tools: &[Value]) -> String {
    let mut text =
        "You can call functions. These are their definitions, one on a line:\n<tools>\n".to_owned();
    for tool in tools {
        let _ = writeln!(text, "{}", python_json(tool)); // a string takes all that is written to it
    }
    let _ = write!(
        text,
        "</tools>\n\nTo call a function, write its name and its arguments as a JSON object between {CALL_BEGIN} and \
         {CALL_END}, in this form:\n{CALL_BEGIN}\n{{\"name\": \"<function name>\", \"arguments\": {{<arguments>}}}}\n\
         {CALL_END}\nWhat it returns comes between <tool_response> and </tool_response>. If no function helps, answer \
         without a call.",
    );
    text
}
