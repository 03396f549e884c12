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
    /// What may stand before a raw value and what ends one, as long as that is not decided, with what came of the first.
    raw: Option<(&'static str, &'static str, String)>,
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
            raw: syntax.raw.map(|(open, end)| (open, end, String::new())),
        }
    }

    /// Takes the next character and writes the JSON that is certain. Whether the value is complete.
    pub(super) fn push(&mut self, character: char, json: &mut String) -> bool {
        if std::mem::take(&mut self.skips_break) && character == '\n' {
            return false;
        }
        if let Some((open, end, mut read)) = self.raw.take() {
            read.push(character);
            if read == open {
                self.end = Finder::new([end]);
            } else if open.starts_with(&read) {
                self.raw = Some((open, end, read));
            } else {
                // No value ends before its first character that differs from the mark.
                return read.chars().fold(false, |_, character| self.push_plain(character, json));
            }
            return false;
        }
        self.push_plain(character, json)
    }

    fn push_plain(&mut self, character: char, json: &mut String) -> bool {
        let mut text = String::new();
        let is_complete = self.end.push(character, &mut text).is_some();
        self.take(&text, json);
        if is_complete {
            match self.writing {
                Writing::Text => json.push('"'),
                Writing::Json | Writing::Either => json.push_str(&json_of(self.writing, &self.text)),
            }
        }
        is_complete
    }

    /// What came of a value that is cut off.
    pub(super) fn finish(&mut self, json: &mut String) {
        let rest = self.raw.take().map_or_else(|| self.end.finish(), |(_, _, read)| read);
        self.take(&rest, json);
        begun_json(self.writing, &self.text, json);
    }

    fn take(&mut self, text: &str, json: &mut String) {
        match self.writing {
            Writing::Text => text.chars().for_each(|character| escape_into(character, json)),
            Writing::Json | Writing::Either => self.text.push_str(text),
        }
    }
}

/// The JSON of a value that is no string for certain: itself if it is JSON, what Python means by it, or else a string.
pub(super) fn json_of(writing: Writing, value: &str) -> String {
    let text = value.trim();
    let is_quoted = text.starts_with('"');
    if (writing == Writing::Json || !is_quoted) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return text.to_owned();
    }
    if let Some(json) = Literal::python(text) {
        return json;
    }
    let mut json = String::with_capacity(value.len() + 2);
    json.push('"');
    value.chars().for_each(|character| escape_into(character, &mut json));
    json.push('"');
    json
}

/// The JSON of what came of such a value.
pub(super) fn begun_json(writing: Writing, value: &str, json: &mut String) {
    let text = value.trim_start();
    if writing == Writing::Json || text.starts_with(['{', '[']) {
        json.push_str(text);
    } else if !text.is_empty() {
        json.push('"');
        text.chars().for_each(|character| escape_into(character, json));
    }
}
