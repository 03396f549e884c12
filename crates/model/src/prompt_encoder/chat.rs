//! A conversation for a model.

use serde_json::{Map, Value};

use crate::chat_template::Message;

/// A conversation for a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// What has been said.
    pub messages: Vec<Message>,
    /// The tools that the model may call, each a JSON object as in OpenAI's API:
    /// `{"type": "function", "function": {"name", "description", "parameters"}}`.
    pub tools: Vec<Value>,
    /// Variables that the model's template has besides: `enable_thinking` and the like.
    pub variables: Map<String, Value>,
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends with the content of the last message, which the model continues; no answer begins
    /// then, whatever `add_generation_prompt` says.
    pub continue_final_message: bool,
}

impl Chat {
    /// A conversation without tools that is to be answered.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, add_generation_prompt: true, ..Self::default() }
    }
}
