//! Calls that are JSON objects: a name and arguments under keys.

use serde_json::Value;

use super::delta::Deltas;
use super::json_scanner::{JsonScanner, Progress};

/// A call that arrives character by character.
///
/// The call is certain once its name is known and its arguments begin. If the name comes behind the arguments, they wait
/// for it.
#[derive(Clone, Debug, Default)]
pub(super) struct ObjectCall {
    scanner: JsonScanner,
    /// The key or the value of the call that is read.
    item: String,
    key: Option<String>,
    name: Option<String>,
    /// Arguments that came before the name.
    waiting: Option<String>,
    told: Told,
}

/// What of a call was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    /// The name; the arguments are told as they come.
    Name,
    /// All.
    All,
}

/// What a character makes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Open,
    /// The object ended with this character.
    Complete,
    /// It cannot go on with this character.
    Broken,
}

impl ObjectCall {
    /// Whether it is a call for certain.
    pub(super) fn is_certain(&self) -> bool {
        self.told != Told::Nothing
    }

    /// Takes the next character. `may_be` says whether a name is one of a tool; with `wants_arguments` an object without
    /// arguments is no call.
    pub(super) fn push(
        &mut self,
        character: char,
        may_be: impl Fn(&str) -> bool,
        wants_arguments: bool,
        out: &mut Deltas,
    ) -> Reading {
        let (depth, was_in_string) = (self.scanner.depth(), self.scanner.is_in_string());
        let progress = self.scanner.push(character);
        if progress == Progress::Broken {
            return Reading::Broken;
        }
        if self.told == Told::Name {
            out.arguments_char(character);
            if self.scanner.depth() == 1 {
                self.told = Told::All;
                self.key = None;
            }
            return Reading::Open;
        }
        let is_read = match (depth, character) {
            (0, _) => true,
            (1, ':') if !was_in_string => {
                self.key = serde_json::from_str(self.item.trim()).ok();
                self.item.clear();
                true
            }
            (1, ',' | '}') if !was_in_string => self.end_value(&may_be, out),
            (1, '{') if !was_in_string && self.is_arguments() && self.name.is_some() => {
                out.call(self.name.take().unwrap_or_default());
                out.arguments("{");
                self.told = Told::Name;
                self.item.clear();
                true
            }
            _ => {
                self.item.push(character);
                true
            }
        };
        if !is_read {
            return Reading::Broken;
        }
        if progress != Progress::Complete {
            return Reading::Open;
        }
        if self.told == Told::Nothing {
            let Some(name) = self.name.take().filter(|_| !wants_arguments) else { return Reading::Broken };
            out.call(name);
            out.arguments("{}");
            self.told = Told::All;
        }
        Reading::Complete
    }

    fn is_arguments(&self) -> bool {
        self.told == Told::Nothing
            && self.waiting.is_none()
            && matches!(self.key.as_deref(), Some("arguments" | "parameters"))
    }

    /// Takes a value that is complete. Whether the object can still be a call.
    fn end_value(&mut self, may_be: &impl Fn(&str) -> bool, out: &mut Deltas) -> bool {
        let value = std::mem::take(&mut self.item);
        let is_arguments = self.is_arguments();
        match self.key.take().as_deref() {
            Some("name" | "tool_name") if self.told == Told::Nothing && self.name.is_none() => {
                self.name = serde_json::from_str(value.trim()).ok().filter(|name: &String| may_be(name));
                if self.name.is_none() {
                    return false;
                }
            }
            Some(_) if is_arguments && value.trim() != "null" => {
                self.waiting = arguments(value.trim());
                if self.waiting.is_none() {
                    return false;
                }
            }
            _ => {}
        }
        if let (Some(_), Some(arguments)) = (&self.name, &self.waiting) {
            out.call(self.name.take().unwrap_or_default());
            out.arguments(arguments);
            self.told = Told::All;
        }
        true
    }
}

/// The JSON text of arguments that are an object or, as some models write them, the text of one.
fn arguments(value: &str) -> Option<String> {
    match serde_json::from_str(value).ok()? {
        Value::Object(_) => Some(value.to_owned()),
        Value::String(text) => {
            let is_object = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
            is_object.then_some(text)
        }
        _ => None,
    }
}
