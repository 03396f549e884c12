//! What a wire format leaves open and a template does not: the forms in which it takes messages.

use minijinja::Value;

use super::Message;
use super::python_value::{dictionary, from_json, list};

/// The forms that a template takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms {
    pub(super) without_content: WithoutContent,
    pub(super) arguments: Arguments,
    pub(super) content: Content,
    pub(super) reasoning: ThoughtField,
}

/// What `content` is in a message that only calls tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WithoutContent {
    #[default]
    Empty,
    None,
    Absent,
}

/// What the arguments of a call are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arguments {
    #[default]
    Object,
    /// The JSON text of one.
    Json,
}

/// What `content` is in a message that has some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// One text.
    #[default]
    Text,
    /// One text, or a list of parts where it was written as one.
    AsWritten,
    /// A list of parts.
    Parts,
}

/// The field with what an assistant thought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ThoughtField {
    #[default]
    ReasoningContent,
    Reasoning,
    Thinking,
}

impl Forms {
    /// The message as the template sees it: what is absent is not there.
    pub(super) fn message(self, message: &Message) -> Value {
        let Message { role, content: _, parts: _, reasoning, name, tool_calls, tool_call_id } = message;
        let mut fields = vec![("role", Value::from(role.as_str()))];
        fields.extend(self.content(message).map(|content| ("content", content)));
        let field = match self.reasoning {
            ThoughtField::ReasoningContent => "reasoning_content",
            ThoughtField::Reasoning => "reasoning",
            ThoughtField::Thinking => "thinking",
        };
        fields.extend(reasoning.as_deref().map(|text| (field, Value::from(text))));
        fields.extend(name.as_deref().map(|name| ("name", Value::from(name))));
        if !tool_calls.is_empty() {
            fields.push(("tool_calls", list(tool_calls.iter().map(|call| self.call(call)))));
        }
        fields.extend(tool_call_id.as_deref().map(|id| ("tool_call_id", Value::from(id))));
        dictionary(fields.into_iter())
    }

    fn content(self, message: &Message) -> Option<Value> {
        let Message { content, parts, tool_calls, .. } = message;
        if content.is_empty() && !tool_calls.is_empty() {
            return match self.without_content {
                WithoutContent::Empty => Some(Value::from("")),
                WithoutContent::None => Some(Value::from(())),
                WithoutContent::Absent => None,
            };
        }
        let part = |text: &str| {
            let fields = [("type", Value::from("text")), ("text", Value::from(text))];
            dictionary(fields.into_iter())
        };
        Some(match self.content {
            Content::AsWritten | Content::Parts if !parts.is_empty() => {
                list(parts.iter().map(|text| part(text)))
            }
            Content::Parts => list([part(content)].into_iter()),
            Content::Text | Content::AsWritten => Value::from(content.as_str()),
        })
    }

    fn call(self, call: &serde_json::Value) -> Value {
        let mut call = call.clone();
        if let Some(arguments) = call.pointer_mut("/function/arguments") {
            match (self.arguments, arguments.as_str()) {
                (Arguments::Json, None) => *arguments = super::json::python_json(arguments).into(),
                (Arguments::Object, Some(json)) => {
                    if let Ok(object @ serde_json::Value::Object(_)) = serde_json::from_str(json) {
                        *arguments = object;
                    }
                }
                _ => {}
            }
        }
        from_json(&call)
    }
}
