//! Rules in llguidance's dialect of Lark, with control tokens where a model has them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;

use lookahead_model::TokenId;
use serde_json::Value;

use crate::vocabulary::Vocabulary;

/// Bytes of rules from which on no more are written: so long a grammar is refused.
pub(crate) const MOST_BYTES: usize = 128 << 10;

/// Writes rules for one format of calls.
pub(crate) struct Rules {
    /// The control tokens of the format, by their names.
    tokens: Vec<(&'static str, TokenId)>,
    written: String,
    /// The names of what was written, by what it is.
    names: HashMap<String, String>,
}

impl Rules {
    /// Rules for a format in which `tokens` may be control tokens of the model.
    pub(crate) fn new(tokens: &'static [&'static str], vocabulary: &Vocabulary) -> Self {
        let known = tokens.iter().filter_map(|name| Some((*name, vocabulary.control_token(name)?)));
        Self { tokens: known.collect(), written: String::new(), names: HashMap::new() }
    }

    /// A rule with that body, by its name.
    pub(crate) fn rule(&mut self, body: &str) -> String {
        self.add("r", if body.is_empty() { "\"\"" } else { body })
    }

    /// A rule of JSON that satisfies `schema`, by its name.
    pub(crate) fn json(&mut self, schema: &Value) -> String {
        self.rule(&format!("%json {schema}"))
    }

    /// A terminal with that body, by its name.
    fn terminal(&mut self, body: &str) -> String {
        self.add("T", body)
    }

    /// Whether no more are written.
    pub(crate) fn are_too_long(&self) -> bool {
        self.written.len() > MOST_BYTES
    }

    /// Adds a rule or a terminal, unless there is one with that body.
    fn add(&mut self, kind: &str, body: &str) -> String {
        let name = format!("{kind}{}", self.names.len());
        if self.are_too_long() {
            return name;
        }
        match self.names.entry(format!("{kind}: {body}")) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(free) => {
                let _ = writeln!(self.written, "{name}: {body}");
                free.insert(name).clone()
            }
        }
    }

    /// Adds a rule of that name, once: for rules that hold themselves.
    pub(crate) fn named(&mut self, name: &str, body: &str) {
        if let Entry::Vacant(free) = self.names.entry(name.to_owned()) {
            free.insert(name.to_owned());
            let _ = writeln!(self.written, "{name}: {body}");
        }
    }

    /// The grammar that begins with `start`.
    pub(crate) fn finish(self, start: &str) -> String {
        format!("start: {start}\n{}", self.written)
    }

    /// The first control token in `text`, with what stands before and behind it.
    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, TokenId, &'t str)> {
        let found = self.tokens.iter().filter_map(|&(name, id)| Some((text.find(name)?, name.len(), id)));
        let (at, length, id) = found.min()?;
        Some((&text[..at], id, &text[at + length..]))
    }

    /// Markup as it stands, with its control tokens. White space around it stands by itself: the longest piece that fits is
    /// read, and what differs behind a line break would be decided at the break.
    pub(crate) fn markup(&self, mut text: &str) -> String {
        let mut parts = Vec::new();
        while let Some((before, id, behind)) = self.split(text) {
            parts.extend(pieces(before).map(literal));
            parts.push(format!("<[{id}]>"));
            text = behind;
        }
        parts.extend(pieces(text).map(literal));
        parts.join(" ")
    }

    /// Any text up to `end` and `end` itself, in a rule.
    pub(crate) fn text_until(&mut self, end: &str) -> String {
        match self.split(end) {
            None => {
                let name = format!("u{}", self.names.len());
                match self.names.entry(format!("until {end}")) {
                    Entry::Occupied(known) => known.get().clone(),
                    Entry::Vacant(free) => {
                        let _ = writeln!(self.written, "{name}[suffix={}]: /(?s:.*)/", literal(end));
                        free.insert(name).clone()
                    }
                }
            }
            Some((before, id, behind)) => {
                let behind = self.markup(behind);
                let text = if before.is_empty() {
                    format!("{}?", self.terminal("/(?s:.+)/"))
                } else {
                    self.terminal(&format!("/(?s:.*){}/", escaped(before)))
                };
                self.rule(&format!("{text} <[{id}]> {behind}"))
            }
        }
    }

    /// Any text that does not hold `end`, in a terminal.
    pub(crate) fn text_without(&mut self, end: &str) -> String {
        match self.split(end) {
            None => self.text_not_holding(&escaped(end)),
            Some(_) => self.terminal("/(?s:.+)/"),
        }
    }

    /// Any text that does not begin as the regular expression `beginning` says, in a terminal.
    pub(crate) fn text_not_beginning(&mut self, beginning: &str) -> String {
        self.terminal(&format!("/(?s:.+)/ & ~/{beginning}(?s:.*)/"))
    }

    /// Any text no part of which matches the regular expression `pattern`, in a terminal.
    pub(crate) fn text_not_holding(&mut self, pattern: &str) -> String {
        self.terminal(&format!("/(?s:.+)/ & ~/(?s:.*){pattern}(?s:.*)/"))
    }

    /// What a regular expression matches, in a terminal.
    pub(crate) fn pattern(&mut self, pattern: &str) -> String {
        self.terminal(&format!("/{pattern}/"))
    }
}

/// The white space before a text, the text, and the white space behind it, as far as there is any.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let (before, rest) = text.split_at(text.len() - text.trim_start().len());
    let (middle, behind) = rest.split_at(rest.trim_end().len());
    [before, middle, behind].into_iter().filter(|piece| !piece.is_empty())
}

/// What stands one behind the other.
pub(crate) fn sequence<T: AsRef<str>>(parts: impl IntoIterator<Item = T>) -> String {
    let mut sequence = String::new();
    for part in parts {
        let part = part.as_ref();
        if !part.is_empty() {
            sequence.push_str(if sequence.is_empty() { "" } else { " " });
            sequence.push_str(part);
        }
    }
    sequence
}

/// `text` as a string in Lark, whose strings are those of JSON.
pub(crate) fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// `text` in a regular expression between slashes.
pub(crate) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if "\\.+*?()|[]{}^$#&-~/\"".contains(character) {
            pattern.push('\\');
        }
        match character {
            '\n' => pattern.push_str("\\n"),
            _ => pattern.push(character),
        }
    }
    pattern
}
