//! Messages of Ollama's clients, as the reader of OpenAI's takes them.

use std::collections::VecDeque;

use lookahead_model::chat_template::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::conversation::ChatMessage;
use crate::api::warnings::Warnings;
use crate::error::ApiError;

/// What someone says.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct OllamaMessage {
    /// `system`, `user`, `assistant` or `tool`.
    role: String,
    /// What they say.
    content: Option<String>,
    /// What the assistant thought before.
    thinking: Option<String>,
    /// Not supported.
    images: Option<Vec<Value>>,
    /// Functions that the assistant called: `{"function": {"name", "arguments"}}`.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<Value>>,
    /// The function that a tool's result is of.
    tool_name: Option<String>,
    /// The call that it is the result of.
    tool_call_id: Option<String>,
}

/// What has been said, as templates are shown it.
pub(super) fn read(messages: Vec<OllamaMessage>, warnings: &mut Warnings) -> Result<Vec<Message>, ApiError> {
    let mut calls = Calls::default();
    let mut converted = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        refuse_images(&format!("messages[{index}].images"), message.images.as_deref())?;
        let is_result = message.role == "tool";
        let tool_calls: Vec<Value> =
            message.tool_calls.iter().flatten().map(|call| calls.begin(call)).collect();
        let answered = is_result.then(|| calls.answer(message.tool_name.as_deref())).flatten();
        let mut object = json!({
            "role": message.role,
            "content": message.content.unwrap_or_default(),
            "reasoning_content": message.thinking,
            "name": message.tool_name,
            "tool_call_id": message.tool_call_id.or(answered),
        });
        if !tool_calls.is_empty() {
            object["tool_calls"] = tool_calls.into();
        }
        let message: ChatMessage = serde_json::from_value(object)
            .map_err(|error| ApiError::invalid(format!("messages[{index}]"), error.to_string()))?;
        converted.push(message.read(&format!("messages[{index}]"), warnings)?);
    }
    Ok(converted)
}

/// Refuses pictures.
pub(super) fn refuse_images(param: &str, images: Option<&[Value]>) -> Result<(), ApiError> {
    match images {
        Some([_, ..]) => Err(ApiError::unsupported(param, format!("{param}: this model reads text only"))),
        _ => Ok(()),
    }
}

/// Calls that one turn makes, at most, for their results to be told apart by names.
const MAX_CALLS_OF_A_TURN: usize = 256;

/// Calls that wait for a result. Ollama's clients give them no ids, which templates may want.
#[derive(Default)]
struct Calls {
    count: usize,
    /// Ids and names, in the order of the calls.
    waiting: VecDeque<(String, String)>,
}

impl Calls {
    /// A call with all that OpenAI's has.
    fn begin(&mut self, call: &Value) -> Value {
        self.count += 1;
        let given = call["id"].as_str().filter(|id| !id.is_empty());
        // Some templates insist on nine letters and digits.
        let id = given.map_or_else(|| format!("call{:05}", self.count), str::to_owned);
        let function = &call["function"];
        self.waiting.push_back((id.clone(), function["name"].as_str().unwrap_or_default().to_owned()));
        json!({
            "id": id,
            "type": "function",
            "function": { "name": function["name"], "arguments": function["arguments"] },
        })
    }

    /// The call that a result is of: the first of that function that waits for one, or the first of all.
    fn answer(&mut self, name: Option<&str>) -> Option<String> {
        // No turn has so many calls, and looking through all of a hostile one for each result would take too long.
        let mut waiting = self.waiting.iter().take(MAX_CALLS_OF_A_TURN);
        let of_name = waiting.position(|(_, called)| Some(called.as_str()) == name);
        self.waiting.remove(of_name.unwrap_or(0)).map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_tools_find_the_calls_that_they_are_of() {
        let messages = json!([
            { "role": "user", "content": "Go." },
            {
                "role": "assistant",
                "thinking": "Two calls.",
                "tool_calls": [
                    { "function": { "name": "read", "arguments": { "path": "a" } } },
                    { "function": { "name": "list", "arguments": {} } },
                ],
            },
            { "role": "tool", "tool_name": "list", "content": "a b" },
            { "role": "tool", "content": "text" },
            { "role": "tool", "content": "of nothing" },
        ]);
        let read = read(serde_json::from_value(messages).unwrap(), &mut Warnings::default()).unwrap();
        assert_eq!(read[1].reasoning.as_deref(), Some("Two calls."));
        assert_eq!((read[1].content.as_str(), &read[1].tool_calls[0]["id"]), ("", &json!("call00001")));
        assert_eq!(read[1].tool_calls[0]["function"]["arguments"], json!({ "path": "a" }));
        let ids: Vec<Option<&str>> =
            read[2..].iter().map(|message| message.tool_call_id.as_deref()).collect();
        assert_eq!(ids, [Some("call00002"), Some("call00001"), None]);
    }

    #[test]
    fn pictures_are_refused_by_their_place() {
        let messages = json!([{ "role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="] }]);
        let error = read(serde_json::from_value(messages).unwrap(), &mut Warnings::default()).unwrap_err();
        assert!(error.message().starts_with("messages[0].images: this model reads text only"));
    }
}
