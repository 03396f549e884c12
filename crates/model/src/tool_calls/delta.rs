//! What becomes certain about an answer.

/// What became certain about an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolDelta {
    /// Text for the user, never empty.
    Content(String),
    /// What the model thinks, never empty; only where the format of calls marks that, too.
    Reasoning(String),
    /// A call of a tool begins.
    Call {
        /// The name of the tool.
        name: String,
    },
    /// More of the JSON text of the object that the last call is given, never empty. A call that is cut off has what
    /// came of it.
    Arguments(String),
}

/// Collects deltas; neighbours of one kind become one.
#[derive(Debug, Default)]
pub(super) struct Deltas(pub(super) Vec<ToolDelta>);

impl Deltas {
    pub(super) fn content(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(ToolDelta::Content(before)) => before.push_str(text),
            _ => self.0.push(ToolDelta::Content(text.to_owned())),
        }
    }

    pub(super) fn reasoning(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(ToolDelta::Reasoning(before)) => before.push_str(text),
            _ => self.0.push(ToolDelta::Reasoning(text.to_owned())),
        }
    }

    pub(super) fn call(&mut self, name: String) {
        self.0.push(ToolDelta::Call { name });
    }

    pub(super) fn arguments(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(ToolDelta::Arguments(before)) => before.push_str(text),
            _ => self.0.push(ToolDelta::Arguments(text.to_owned())),
        }
    }

    pub(super) fn arguments_char(&mut self, character: char) {
        self.arguments(character.encode_utf8(&mut [0; 4]));
    }
}
