//! Messages in the form of OpenAI's chats, and of the servers that take after them.

use lookahead_model::chat_template::Message;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::calls::call_of;
use super::content::{Said, reasoning_of, result_text, texts_of};
use super::role::read_role;
use crate::api::warnings::Warnings;
use crate::error::ApiError;

/// What someone says.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::api) struct ChatMessage {
    /// `system` (or `developer`), `user`, `assistant`, `tool` or `function`.
    role: String,
    /// What they say: a text, or parts of which those with text and with thinking are read.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    content: Value,
    /// What the assistant thought before: vLLM's and DeepSeek's name, and another one that is in use.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    reasoning_content: Value,
    /// The same.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    reasoning: Value,
    /// What the assistant said in place of an answer.
    refusal: Option<String>,
    /// Who it is, of several with one role; of a result, the function.
    name: Option<String>,
    /// Functions that the assistant called.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<Value>>,
    /// The one function that the assistant called, in the older form.
    #[schema(value_type = Option<Object>)]
    function_call: Option<Value>,
    /// The call that a tool answers.
    tool_call_id: Option<String>,
}

impl ChatMessage {
    /// The message, of which `param` is the place.
    pub(in crate::api) fn read(self, param: &str, warnings: &mut Warnings) -> Result<Message, ApiError> {
        let role = read_role(&self.role, &format!("{param}.role"))?;
        let place = format!("{param}.content");
        let said = if role == "tool" {
            Said { text: result_text(&self.content, &place, warnings)?, reasoning: String::new() }
        } else {
            Said::read(&self.content, &place)?
        };
        let calls = self.tool_calls.unwrap_or_default();
        let calls =
            calls.iter().enumerate().map(|(at, call)| call_of(call, &format!("{param}.tool_calls[{at}]")));
        let older = self.function_call.iter().filter(|call| !call.is_null());
        let older = older.map(|call| call_of(call, &format!("{param}.function_call")));
        let content = match self.refusal {
            Some(refusal) if said.text.is_empty() => refusal,
            _ => said.text,
        };
        let written = [texts_of(&self.reasoning_content), thought(&self.reasoning), said.reasoning];
        Ok(Message {
            reasoning: written.into_iter().find(|text| !text.is_empty()),
            name: self.name,
            tool_calls: calls.chain(older).collect::<Result<_, _>>()?,
            tool_call_id: self.tool_call_id,
            ..Message::new(role, content)
        })
    }
}

/// Thinking as a text, as parts, or as an object with a text.
fn thought(reasoning: &Value) -> String {
    if reasoning.is_object() { reasoning_of(reasoning) } else { texts_of(reasoning) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(message: Value) -> Result<Message, ApiError> {
        let message: ChatMessage = serde_json::from_value(message).unwrap();
        message.read("messages[0]", &mut Warnings::default())
    }

    #[test]
    fn what_servers_have_sent_can_be_sent_back() {
        for silent in [
            json!({"role": "assistant", "content": null}),
            json!({"role": "assistant"}),
            json!({"role": "ASSISTANT", "content": null, "tool_calls": [], "refusal": null, "annotations": []}),
            json!({"role": " Assistant", "content": "", "tool_calls": null, "function_call": null, "audio": null}),
        ] {
            assert_eq!(read(silent).unwrap(), Message::new("assistant", ""));
        }
        for role in ["user", "system", "tool"] {
            assert_eq!(read(json!({"role": role, "content": null})).unwrap(), Message::new(role, ""));
            assert_eq!(read(json!({"role": role})).unwrap(), Message::new(role, ""));
        }
        assert_eq!(read(json!({"role": "Developer", "content": "x"})).unwrap(), Message::new("system", "x"));
        let refused = read(json!({"role": "assistant", "content": null, "refusal": "no"})).unwrap();
        assert_eq!(refused, Message::new("assistant", "no"));
        for thinking in [
            json!({"reasoning_content": "t"}),
            json!({"reasoning": "t"}),
            json!({"reasoning": "t", "reasoning_content": "t"}),
            json!({"reasoning": {"text": "t"}, "reasoning_content": null}),
            json!({"reasoning": null, "reasoning_content": "", "content": [{"type": "thinking", "thinking": "t"}, "x"]}),
        ] {
            let mut message = json!({"role": "assistant", "content": "x"});
            message.as_object_mut().unwrap().extend(thinking.as_object().unwrap().clone());
            let read = read(message).unwrap();
            assert_eq!((read.content.as_str(), read.reasoning.as_deref()), ("x", Some("t")), "{thinking}");
        }
    }

    #[test]
    fn the_older_form_of_calls_and_their_results_is_read() {
        let call = read(
            json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}),
        );
        assert_eq!(call.unwrap().tool_calls, [super::super::calls::call(None, "f", &json!("{}"))]);
        let result =
            read(json!({"role": "function", "name": "f", "content": [{"type": "text", "text": "1"}]}))
                .unwrap();
        assert_eq!((&*result.role, result.name.as_deref(), &*result.content), ("tool", Some("f"), "1"));
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        for (message, place) in [
            (json!({"role": "boss"}), "messages[0].role"),
            (json!({"role": "user", "content": 3}), "messages[0].content"),
            (json!({"role": "assistant", "tool_calls": [{"id": "1"}]}), "messages[0].tool_calls[0]"),
            (json!({"role": "assistant", "function_call": {}}), "messages[0].function_call"),
        ] {
            let error = read(message.clone()).unwrap_err();
            assert!(error.message().starts_with(place), "{message}: {}", error.message());
        }
    }
}
