//! What a template can take, found out by rendering small conversations when it is loaded.

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::forms::{Arguments, Content, Forms, ThoughtField, WithoutContent};
use super::{ChatTemplate, Message};

/// Texts that no template has of its own.
const FIRST: &str = "Erste Probe";
const SECOND: &str = "Zweite Probe";
const NAME: &str = "probe_name";
const ARGUMENT: &str = "probe_argument";

static TOOLS: LazyLock<[Value; 1]> = LazyLock::new(|| {
    let parameters = json!({"type": "object", "properties": {}});
    [json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}})]
});

/// The roles that a template bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub(crate) struct Roles {
    /// A system message at the beginning is in the prompt.
    pub(crate) system: bool,
    /// So is one in the middle.
    pub(crate) system_in_the_middle: bool,
    /// The template knows the role `developer`.
    pub(crate) developer: bool,
    /// Two messages of one role may follow each other.
    pub(crate) in_a_row: bool,
}

impl Default for Roles {
    fn default() -> Self {
        Self { system: true, system_in_the_middle: true, developer: true, in_a_row: true }
    }
}

/// The forms in which `template` takes messages.
pub(super) fn forms(template: &ChatTemplate) -> Forms {
    let forms = Forms { content: content(template), ..Forms::default() };
    let forms = calls(template, forms);
    Forms { reasoning: reasoning(template, forms), ..forms }
}

/// The roles that `template` bears.
pub(super) fn roles(template: &ChatTemplate, forms: Forms) -> Roles {
    let user = || Message::new("user", "x");
    let shows = |messages: &[Message], texts: &[&str]| {
        render(template, forms, messages, &[])
            .is_some_and(|text| texts.iter().all(|part| text.contains(part)))
    };
    // A template that fails on the plainest conversation is not to be told by what else it fails on.
    if render(template, forms, &[user()], &[]).is_none() {
        return Roles::default();
    }
    let assistant = || Message::new("assistant", "y");
    let system = shows(&[Message::new("system", FIRST), user()], &[FIRST]);
    let in_the_middle = [user(), assistant(), Message::new("system", SECOND), user()];
    let in_a_row = [
        [Message::new("user", FIRST), Message::new("user", SECOND), assistant(), user()],
        [user(), Message::new("assistant", FIRST), Message::new("assistant", SECOND), user()],
    ];
    Roles {
        system,
        system_in_the_middle: system && shows(&in_the_middle, &[SECOND]),
        developer: template.source.contains("developer"),
        in_a_row: in_a_row.iter().all(|messages| shows(messages, &[FIRST, SECOND])),
    }
}

/// Whether `content` may be a list of parts, or must be.
fn content(template: &ChatTemplate) -> Content {
    let parts = vec![FIRST.to_owned(), SECOND.to_owned()];
    let message = Message { content: parts.concat(), parts, ..Message::new("user", "") };
    let shown = |content| {
        let text =
            render(template, Forms { content, ..Forms::default() }, std::slice::from_ref(&message), &[])?;
        // A list that is printed as such is not understood.
        let is_printed = ["'text': '", "\"text\": \"", "\"text\":\""].iter().any(|key| text.contains(key));
        (text.contains(FIRST) && text.contains(SECOND) && !is_printed).then_some(())
    };
    match (shown(Content::Text), shown(Content::AsWritten)) {
        (Some(()), Some(())) => Content::AsWritten,
        (None, Some(())) => Content::Parts,
        (_, None) => Content::Text,
    }
}

/// The forms of calls and of messages that only call, the best of all pairs.
fn calls(template: &ChatTemplate, forms: Forms) -> Forms {
    let mut best = forms;
    let mut best_score = None;
    let messages = tool_loop(None);
    for arguments in [Arguments::Object, Arguments::Json] {
        for without_content in [WithoutContent::Empty, WithoutContent::None, WithoutContent::Absent] {
            let forms = Forms { without_content, arguments, ..forms };
            let score = render(template, forms, &messages, &*TOOLS).map(|text| {
                let nothings = text.matches("None").count() + text.matches("null").count();
                // Arguments quoted twice, or printed in the manner of Python, are not JSON.
                let is_json = [format!("\\\"{ARGUMENT}"), format!("'{ARGUMENT}'")];
                let is_json = !is_json.iter().any(|wrong| text.contains(wrong));
                (text.contains(NAME), text.contains(ARGUMENT), is_json, -(nothings as isize))
            });
            if score > best_score {
                (best, best_score) = (forms, score);
            }
        }
    }
    best
}

/// The field that the template reads thoughts from.
fn reasoning(template: &ChatTemplate, forms: Forms) -> ThoughtField {
    let messages = tool_loop(Some(FIRST));
    let fields = [ThoughtField::ReasoningContent, ThoughtField::Reasoning, ThoughtField::Thinking];
    let shows = |&reasoning: &ThoughtField| {
        let text = render(template, Forms { reasoning, ..forms }, &messages, &*TOOLS);
        text.is_some_and(|text| text.contains(FIRST))
    };
    fields.into_iter().find(shows).unwrap_or_default()
}

/// A conversation in which a tool is called and answers.
fn tool_loop(reasoning: Option<&str>) -> [Message; 3] {
    const ID: &str = "abcdefghi"; // some templates want nine letters or digits
    let call =
        json!({"id": ID, "type": "function", "function": {"name": NAME, "arguments": {ARGUMENT: "x"}}});
    [
        Message::new("user", "x"),
        Message {
            reasoning: reasoning.map(str::to_owned),
            tool_calls: vec![call],
            ..Message::new("assistant", "")
        },
        Message {
            name: Some(NAME.to_owned()),
            tool_call_id: Some(ID.to_owned()),
            ..Message::new("tool", "y")
        },
    ]
}

fn render(template: &ChatTemplate, forms: Forms, messages: &[Message], tools: &[Value]) -> Option<String> {
    template.render_in(forms, messages, tools, &Map::new(), true).ok()
}
