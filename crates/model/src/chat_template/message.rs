//! The messages of a conversation.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// One message of a conversation, in the form of `transformers` and of OpenAI's API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or `tool` in most templates.
    pub role: String,
    /// What they say; empty where an assistant only calls tools.
    pub content: String,
    /// The texts that `content` is made of, where it was written as a list of parts: some templates set a list apart
    /// from one text. Empty where it was one text.
    pub parts: Vec<String>,
    /// What an assistant thought before it spoke.
    pub reasoning: Option<String>,
    /// The name of who speaks, or of the tool that answers.
    pub name: Option<String>,
    /// The calls of tools that an assistant made: `{"id", "type", "function": {"name", "arguments"}}`.
    pub tool_calls: Vec<Value>,
    /// Which call a tool answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// What `role` says, and nothing else.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// Appends `text` to the content, which is one text then; a `separator` between them if both say something.
    pub(crate) fn append(&mut self, separator: &str, text: &str) {
        self.parts.clear();
        if !self.content.is_empty() && !text.is_empty() {
            self.content.push_str(separator);
        }
        self.content.push_str(text);
    }
}

/// A message as it is written in JSON, in any of the forms that mean the same.
#[derive(Deserialize)]
struct WrittenMessage {
    role: String,
    content: Option<Content>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    name: Option<String>,
    tool_calls: Option<Vec<Value>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`content` must be a text, or a list of parts like {\"type\": \"text\", \"text\": …}"
)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a part of `content` must be an object like {\"type\": \"text\", \"text\": …}")]
enum Part {
    Text(String),
    Typed {
        #[serde(rename = "type")]
        kind: String,
        text: Option<String>,
        thinking: Option<String>,
    },
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenMessage::deserialize(deserializer)?;
        let mut thoughts: Vec<String> = written
            .reasoning_content
            .or(written.reasoning)
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        let (content, parts) = match written.content {
            None => (String::new(), Vec::new()),
            Some(Content::Text(text)) => (text, Vec::new()),
            Some(Content::Parts(parts)) => {
                let mut texts = Vec::with_capacity(parts.len());
                for part in parts {
                    match part {
                        Part::Text(text) => texts.push(text),
                        Part::Typed { kind, text, thinking } => match kind.as_str() {
                            "text" | "input_text" | "output_text" => texts.push(text.unwrap_or_default()),
                            "thinking" | "reasoning" => thoughts.extend(thinking.or(text)),
                            "redacted_thinking" | "refusal" => {}
                            _ => {
                                let problem = format!(
                                    "`content` of type {kind:?} is not supported; models here read text"
                                );
                                return Err(D::Error::custom(problem));
                            }
                        },
                    }
                }
                (texts.concat(), texts)
            }
        };
        Ok(Self {
            role: role(written.role),
            content,
            parts,
            reasoning: (!thoughts.is_empty()).then(|| thoughts.concat()),
            name: written.name,
            tool_calls: written.tool_calls.unwrap_or_default(),
            tool_call_id: written.tool_call_id,
        })
    }
}

/// A role as templates know it: clients write the common ones in other cases, and called tools functions once.
fn role(written: String) -> String {
    let lower = written.to_ascii_lowercase();
    match lower.as_str() {
        "system" | "developer" | "user" | "assistant" | "tool" => lower,
        "function" => "tool".to_owned(),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_a_message_is_read() {
        let text = |text: &str| Message::new("user", text);
        let parts =
            |texts: [&str; 2]| Message { parts: texts.map(str::to_owned).into(), ..text(&texts.concat()) };
        let thought = |content: &str| Message { reasoning: Some("hm".to_owned()), ..text(content) };
        let calls = Message { tool_calls: vec![json!({})], ..text("") };
        for (written, expected) in [
            (json!({"role": "user", "content": "x", "refusal": null}), text("x")),
            (json!({"role": "user"}), text("")),
            (json!({"role": "user", "content": null, "tool_calls": null, "name": null}), text("")),
            (json!({"role": "user", "content": null, "tool_calls": [{}]}), calls.clone()),
            (json!({"role": "user", "content": [], "tool_calls": [{}]}), calls),
            (json!({"role": "USER", "content": "x"}), text("x")),
            (json!({"role": "Function", "content": "x"}), Message::new("tool", "x")),
            (json!({"role": "Observer", "content": "x"}), Message::new("Observer", "x")),
            (json!({"role": "user", "content": ["a", "b"]}), parts(["a", "b"])),
            (
                json!({"role": "user", "content": [
                    {"type": "input_text", "text": "a"}, {"type": "refusal", "refusal": "no"},
                    {"type": "redacted_thinking", "data": "…"}, {"type": "output_text", "text": "b", "annotations": []}]}),
                parts(["a", "b"]),
            ),
            (json!({"role": "user", "content": "x", "reasoning": "hm"}), thought("x")),
            (
                json!({"role": "user", "content": "x", "reasoning": "hm", "reasoning_content": "hm"}),
                thought("x"),
            ),
            (
                json!({"role": "user", "content": "x", "reasoning": "hm", "reasoning_content": null}),
                thought("x"),
            ),
            (json!({"role": "user", "content": "x", "reasoning": "", "reasoning_content": ""}), text("x")),
            (json!({"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]}), thought("")),
        ] {
            assert_eq!(serde_json::from_value::<Message>(written.clone()).unwrap(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_by_what_is_wrong() {
        for (written, problem) in [
            (json!({"content": "x"}), "role"),
            (json!({"role": "user", "content": 3}), "`content` must be a text"),
            (json!({"role": "user", "content": [3]}), "`content` must be a text"),
            (json!({"role": "user", "content": [{"text": "x"}]}), "`content` must be a text"),
            (json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}), "\"image_url\""),
        ] {
            let error = serde_json::from_value::<Message>(written.clone()).unwrap_err().to_string();
            assert!(error.contains(problem), "{written}: {error}");
        }
    }
}
