//! Items of an answer.

use serde_json::{Value, json};

use crate::ids;

/// An item that grows.
pub(super) struct Item {
    id: String,
    content: Content,
}

/// What an item holds.
enum Content {
    Reasoning(String),
    Text { text: String, logprobs: Vec<Value> },
    Call { call_id: String, name: String, arguments: String },
}

impl Item {
    pub(super) fn reasoning() -> Self {
        Self { id: ids::new_id("rs_"), content: Content::Reasoning(String::new()) }
    }

    pub(super) fn message() -> Self {
        Self { id: ids::new_id("msg_"), content: Content::Text { text: String::new(), logprobs: Vec::new() } }
    }

    pub(super) fn call(name: String) -> Self {
        let (call_id, arguments) = (ids::new_id("call_"), String::new());
        Self { id: ids::new_id("fc_"), content: Content::Call { call_id, name, arguments } }
    }

    pub(super) fn is_reasoning(&self) -> bool {
        matches!(self.content, Content::Reasoning(_))
    }

    pub(super) fn is_message(&self) -> bool {
        matches!(self.content, Content::Text { .. })
    }

    pub(super) fn is_call(&self) -> bool {
        matches!(self.content, Content::Call { .. })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Appends to what it says.
    pub(super) fn push(&mut self, more: &str, more_logprobs: &[Value]) {
        match &mut self.content {
            Content::Reasoning(text) => *text += more,
            Content::Text { text, logprobs } => {
                *text += more;
                logprobs.extend_from_slice(more_logprobs);
            }
            Content::Call { arguments, .. } => *arguments += more,
        }
    }

    /// What events are called that tell more of it.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            Content::Reasoning(_) => "reasoning_text",
            Content::Text { .. } => "output_text",
            Content::Call { .. } => "function_call_arguments",
        }
    }

    /// The last event of its content: all that it says.
    pub(super) fn done(&self) -> Value {
        match &self.content {
            Content::Reasoning(text) => json!({ "content_index": 0, "text": text }),
            Content::Text { text, logprobs } => {
                json!({ "content_index": 0, "text": text, "logprobs": logprobs })
            }
            Content::Call { name, arguments, .. } => json!({ "name": name, "arguments": arguments }),
        }
    }

    /// The part of its content, as it is now; calls have none.
    pub(super) fn part(&self) -> Option<Value> {
        match &self.content {
            Content::Reasoning(text) => Some(json!({ "type": "reasoning_text", "text": text })),
            Content::Text { text, logprobs } => {
                Some(json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs }))
            }
            Content::Call { .. } => None,
        }
    }

    /// The item before anything of its content has come.
    pub(super) fn begun(&self) -> Value {
        let mut item = self.object("in_progress");
        if !self.is_call() {
            item["content"] = json!([]);
        }
        item
    }

    /// The item as it is now.
    pub(super) fn object(&self, status: &str) -> Value {
        let content: Vec<Value> = self.part().into_iter().collect();
        match &self.content {
            Content::Reasoning(_) => json!({
                "id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status,
            }),
            Content::Text { .. } => json!({
                "id": self.id, "type": "message", "role": "assistant", "status": status, "content": content,
            }),
            Content::Call { call_id, name, arguments } => json!({
                "id": self.id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments,
                "status": status,
            }),
        }
    }
}
