//! Arguments in tags that nest, where only schemas tell what is what.

use super::finder::Finder;
use super::json_scanner::Progress;
use super::literal::escape_into;
use super::signatures::{SchemaPlace, Writing};
use super::syntax::NestedSyntax;
use super::tagged::json_of;

/// Longest tag in bytes: the name of a field, with what stands around it.
const LONGEST_TAG: usize = 1024;

/// Arguments that arrive character by character: elements that hold a text, fields or items. Strings are told as they come,
/// all other texts once they are whole.
#[derive(Clone, Debug)]
pub(super) struct Nested {
    syntax: &'static NestedSyntax,
    /// What tags stand behind.
    mark: Finder,
    /// The elements that are open, outermost first: the first one are the arguments.
    open: Vec<Element>,
    /// What came of a tag.
    tag: Option<String>,
}

#[derive(Clone, Debug)]
struct Element {
    place: SchemaPlace,
    /// The tag that ends it.
    end: String,
    writing: Writing,
    holds: Holds,
    /// What came of a text that is no string for certain.
    text: String,
}

/// What an element holds, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Text,
    Fields(usize),
    Items(usize),
}

impl Element {
    fn new(name: &str, place: SchemaPlace) -> Self {
        let writing = place.writing();
        Self { place, end: format!("</{name}>"), writing, holds: Holds::Text, text: String::new() }
    }

    fn is_string(&self) -> bool {
        self.writing == Writing::Text && self.holds == Holds::Text
    }

    fn take(&mut self, text: &str, json: &mut String) {
        match self.holds {
            Holds::Text if self.writing == Writing::Text => {
                text.chars().for_each(|character| escape_into(character, json));
            }
            Holds::Text => self.text.push_str(text),
            // Between elements stands white space.
            Holds::Fields(_) | Holds::Items(_) => {}
        }
    }
}

impl Nested {
    /// The arguments of a tool that `place` is the schema of.
    pub(super) fn new(syntax: &'static NestedSyntax, place: SchemaPlace, json: &mut String) -> Self {
        json.push('{');
        let mut arguments = Element::new("", place);
        arguments.holds = Holds::Fields(0);
        Self { syntax, mark: Finder::new([syntax.mark]), open: vec![arguments], tag: None }
    }

    /// Takes the next character and writes the JSON that is certain. To be called until the arguments are complete or broken.
    pub(super) fn push(&mut self, character: char, json: &mut String) -> Progress {
        let Some(element) = self.open.last_mut() else { return Progress::Broken };
        let Some(mut tag) = self.tag.take() else {
            let mut text = String::new();
            let is_mark = self.mark.push(character, &mut text).is_some();
            element.take(&text, json);
            if is_mark {
                self.tag = Some(String::new());
            }
            return Progress::Open;
        };
        tag.push(character);
        if element.is_string() {
            // Nothing but what ends a string is no part of it.
            if tag == element.end {
                return self.close(json);
            }
            if element.end.starts_with(&tag) {
                self.tag = Some(tag);
                return Progress::Open;
            }
            tag.pop();
            element.take(self.syntax.mark, json);
            element.take(&tag, json);
            return self.push(character, json);
        }
        match tag.strip_prefix('<').and_then(|tag| tag.strip_suffix('>')) {
            Some(name) if name.starts_with('/') => self.close(json),
            Some(name) => {
                self.open(name, json);
                Progress::Open
            }
            None if tag.starts_with('<') && tag.len() < LONGEST_TAG => {
                self.tag = Some(tag);
                Progress::Open
            }
            None => Progress::Broken,
        }
    }

    /// What came of arguments that are cut off.
    pub(super) fn finish(&mut self, json: &mut String) {
        let rest = self.mark.finish();
        let Some(element) = self.open.last_mut() else { return };
        element.take(&rest, json);
        if element.holds == Holds::Text {
            super::tagged::begun_json(element.writing, &element.text, json);
        }
    }

    fn open(&mut self, name: &str, json: &mut String) {
        let Some(parent) = self.open.last_mut() else { return };
        if parent.holds == Holds::Text {
            let is_array = parent.place.is_array().unwrap_or(name == self.syntax.item);
            json.push(if is_array { '[' } else { '{' });
            parent.holds = if is_array { Holds::Items(0) } else { Holds::Fields(0) };
        }
        let (Holds::Fields(before) | Holds::Items(before)) = &mut parent.holds else { return };
        if *before > 0 {
            json.push_str(", ");
        }
        let index = *before;
        *before += 1;
        let place = if matches!(parent.holds, Holds::Items(_)) {
            parent.place.item(index)
        } else {
            json.push('"');
            name.chars().for_each(|character| escape_into(character, json));
            json.push_str("\": ");
            parent.place.field(name)
        };
        let element = Element::new(name, place);
        if element.is_string() {
            json.push('"');
        }
        self.open.push(element);
    }

    /// Ends the innermost element, whatever the name of its end: elements nest.
    fn close(&mut self, json: &mut String) -> Progress {
        let Some(element) = self.open.pop() else { return Progress::Broken };
        match (element.holds, element.place.is_array()) {
            (Holds::Fields(_), _) => json.push('}'),
            (Holds::Items(_), _) => json.push(']'),
            (Holds::Text, _) if element.writing == Writing::Text => json.push('"'),
            (Holds::Text, Some(is_array)) if element.text.trim().is_empty() => {
                json.push_str(if is_array { "[]" } else { "{}" });
            }
            (Holds::Text, _) => json.push_str(&json_of(element.writing, &element.text)),
        }
        if self.open.is_empty() { Progress::Complete } else { Progress::Open }
    }
}
