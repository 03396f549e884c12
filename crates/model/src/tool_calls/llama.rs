//! Calls as Llama 3 writes them: the whole answer, or none of it.

use super::call::{ToolDelta, read_json, release};

/// What Llama 3 may write before a call, if control tokens are shown at all.
pub(super) const PYTHON_TAG: &str = "<|python_tag|>";

/// Finds calls in an answer that arrives in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Llama {
    /// Text of which it is not decided what it is.
    held: String,
    /// How much of that is white space and [`PYTHON_TAG`].
    before_answer: usize,
    has_tag: bool,
    answer: Answer,
}

/// What the answer is, by its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Undecided,
    /// An object, which may be a call.
    Object,
    /// No call.
    Content,
}

impl Llama {
    pub(super) fn push(&mut self, text: &str, deltas: &mut Vec<ToolDelta>) {
        self.held.push_str(text);
        if self.answer == Answer::Undecided {
            self.answer = self.decide();
        }
        if self.answer == Answer::Content {
            release(&std::mem::take(&mut self.held), deltas);
        }
    }

    /// Looks at what was not looked at before.
    fn decide(&mut self) -> Answer {
        self.skip_space();
        if !self.has_tag && self.held[self.before_answer..].starts_with(PYTHON_TAG) {
            self.has_tag = true;
            self.before_answer += PYTHON_TAG.len();
            self.skip_space();
        }
        let answer = &self.held[self.before_answer..];
        if answer.starts_with('{') {
            Answer::Object
        } else if answer.is_empty() || (!self.has_tag && PYTHON_TAG.starts_with(answer)) {
            Answer::Undecided
        } else {
            Answer::Content
        }
    }

    fn skip_space(&mut self) {
        let rest = &self.held[self.before_answer..];
        self.before_answer += rest.len() - rest.trim_start().len();
    }

    pub(super) fn finish(&mut self, deltas: &mut Vec<ToolDelta>) {
        let Self { held, before_answer, answer, .. } = std::mem::take(self);
        let calls = if answer == Answer::Object { read_calls(&held[before_answer..]) } else { None };
        match calls {
            Some(calls) => deltas.extend(calls),
            None => release(&held, deltas),
        }
    }
}

/// The calls that a whole answer in Llama's format consists of.
fn read_calls(mut text: &str) -> Option<Vec<ToolDelta>> {
    let mut calls = Vec::new();
    while let Some((call, rest)) = read_json(text).ok()? {
        // An object with nothing but a name is more likely what the user asked for.
        call.arguments.as_ref()?;
        calls.push(call.into_delta()?);
        text = rest.trim_start_matches(|c: char| c == ';' || c.is_whitespace());
    }
    (!calls.is_empty()).then_some(calls)
}
