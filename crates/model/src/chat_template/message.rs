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
