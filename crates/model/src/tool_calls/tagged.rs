//! Values of arguments between tags, where strings stand without quotes.

use serde::de::IgnoredAny;

use super::finder::Finder;
use super::literal::{Literal, escape_into};
use super::signatures::Writing;
use super::syntax::TagSyntax;

/// A value that arrives character by character. Strings are told as they come, all else once it is whole.
#[derive(Clone, Debug)]
pub(super) struct TaggedValue {
    writing: Writing,
    end: Finder,
    /// A value that is no string for certain.
    text: String,
    /// Whether a line break that comes now is no part of the value.
    skips_break: bool,
}

impl TaggedValue {
    /// A value as `syntax` writes it.
    pub(super) fn new(syntax: &'static TagSyntax, writing: Writing, json: &mut String) -> Self {
        if writing == Writing::Text {
            json.push('"');
        }
        Self {
            writing,
            end: Finder::new(syntax.value_ends.iter().copied()),
            text: String::new(),
            skips_break: syntax.is_on_own_line,
        }
    }

    /// Takes the next character and writes the JSON that is certain. Whether the value is complete.
    pub(super) fn push(&mut self, character: char, json: &mut String) -> bool {
        if std::mem::take(&mut self.skips_break) && character == '\n' {
            return false;
        }
        let mut text = String::new();
        let is_complete = self.end.push(character, &mut text).is_some();
        self.take(&text, json);
        if is_complete {
            match self.writing {
                Writing::Text => json.push('"'),
                Writing::Json | Writing::Either => json.push_str(&self.whole()),
            }
        }
        is_complete
    }

    /// What came of a value that is cut off.
    pub(super) fn finish(&mut self, json: &mut String) {
        let rest = self.end.finish();
        self.take(&rest, json);
        let text = self.text.trim_start();
        if self.writing == Writing::Json || text.starts_with(['{', '[']) {
            json.push_str(text);
        } else if !text.is_empty() {
            json.push('"');
            text.chars().for_each(|character| escape_into(character, json));
        }
    }

    fn take(&mut self, text: &str, json: &mut String) {
        match self.writing {
            Writing::Text => text.chars().for_each(|character| escape_into(character, json)),
            Writing::Json | Writing::Either => self.text.push_str(text),
        }
    }

    /// The JSON of a value that is no string for certain: itself if it is JSON, what Python means by it, or else a string.
    fn whole(&self) -> String {
        let text = self.text.trim();
        let is_quoted = text.starts_with('"');
        if (self.writing == Writing::Json || !is_quoted) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            return text.to_owned();
        }
        if let Some(json) = Literal::python(text) {
            return json;
        }
        let mut json = String::with_capacity(self.text.len() + 2);
        json.push('"');
        self.text.chars().for_each(|character| escape_into(character, &mut json));
        json.push('"');
        json
    }
}
