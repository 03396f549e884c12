//! Lists and dictionaries as Jinja prints them: as Python does.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Serde, Value, ValueKind};

/// A list or dictionary that a template prints in the manner of Python's `repr`, and that is else as minijinja has it.
#[derive(Debug)]
struct Printed(DynObject);

/// JSON from a request as a value for templates.
pub(super) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Array(values) => list(values.iter().map(from_json)),
        serde_json::Value::Object(fields) => {
            dictionary(fields.iter().map(|(name, value)| (name.as_str(), from_json(value))))
        }
        scalar => Value::from(Serde(scalar)),
    }
}

/// A list.
pub(super) fn list(values: impl Iterator<Item = Value>) -> Value {
    printed(&Value::from(values.collect::<Vec<_>>()))
}

/// A dictionary, its keys in order.
pub(super) fn dictionary<'n>(fields: impl Iterator<Item = (&'n str, Value)>) -> Value {
    printed(&Value::from_pairs(fields.map(|(name, value)| (Value::from(name), value))))
}

/// Whether a list or dictionary was made here, and not by a template.
pub(super) fn is_given(object: &DynObject) -> bool {
    object.downcast_ref::<Printed>().is_some()
}

fn printed(value: &Value) -> Value {
    value.as_object().map_or(Value::UNDEFINED, |object| Value::from_object(Printed(object.clone())))
}

impl Object for Printed {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        self.0.repr()
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get_value(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.0.enumerate()
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        self.0.enumerator_len()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.0.try_iter().into_iter().flatten().enumerate();
        let is_map = self.0.repr() == ObjectRepr::Map;
        f.write_str(if is_map { "{" } else { "[" })?;
        for (index, item) in items {
            if index > 0 {
                f.write_str(", ")?;
            }
            write_repr(&item, f)?;
            if is_map {
                f.write_str(": ")?;
                write_repr(&self.0.get_value(&item).unwrap_or_default(), f)?;
            }
        }
        f.write_str(if is_map { "}" } else { "]" })
    }
}

/// Writes a value as it stands inside a printed list. Values come from JSON, whose depth is bounded where it is read.
fn write_repr(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => write_string(text, f),
        (None, ValueKind::Bool) => f.write_str(if value.is_true() { "True" } else { "False" }),
        (None, ValueKind::None) => f.write_str("None"),
        _ => write!(f, "{value}"),
    }
}

/// A string as Python's `repr` quotes it.
fn write_string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write as _;
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    f.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            _ if character == quote => write!(f, "\\{character}")?,
            '\0'..'\x20' | '\x7f'..='\u{a0}' | '\u{ad}' => write!(f, "\\x{:02x}", u32::from(character))?,
            _ => f.write_char(character)?,
        }
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};
    use serde_json::json;

    use super::*;

    /// Expected strings are what CPython 3 prints.
    #[test]
    fn lists_and_dictionaries_print_as_in_python() {
        let value = from_json(&json!([
            {"a": "it's", "b": "x\"y", "c": null, "d": true, "e": 1.0, "f": [1, "\n\u{1}é🦀\\"], "g": "both ' \""},
            [],
            {},
        ]));
        let printed = "[{'a': \"it's\", 'b': 'x\"y', 'c': None, 'd': True, 'e': 1.0, 'f': [1, '\\n\\x01é🦀\\\\'], \
                       'g': 'both \\' \"'}, [], {}]";
        let environment = Environment::new();
        for source in ["{{ value }}", "{{ value ~ '' }}", "{{ value | string }}"] {
            assert_eq!(
                environment.render_str(source, context! { value => value.clone() }).unwrap(),
                printed,
                "{source}"
            );
        }
    }

    #[test]
    fn they_are_lists_and_dictionaries_else() {
        let value = from_json(&json!({"b": [1, 2, 3], "a": {"c": "x"}}));
        let environment = Environment::new();
        for (source, expected) in [
            ("{{ value.b[0] }} {{ value['a'].c }} {{ value.z is defined }}", "1 x False"),
            (
                "{{ value.b | length }} {{ value | length }} {{ value.b[-1] }} {{ value.b[1:] | length }}",
                "3 2 3 2",
            ),
            ("{{ value is mapping }} {{ value.b is sequence }} {{ value is iterable }}", "True True True"),
            ("{% for name, one in value | items %}{{ name }};{% endfor %}", "b;a;"),
            (
                "{% for name in value %}{{ name }}{% endfor %} {{ 'a' in value }} {{ 2 in value.b }}",
                "ba True True",
            ),
            (
                "{{ (value.b + [4]) | length }} {{ value.b == [1, 2, 3] }} {{ value.a == {'c': 'x'} }}",
                "4 True True",
            ),
            (
                "{{ 'yes' if value.b }} {{ value.b | join('-') }} {{ value.a | dictsort | first | last }}",
                "yes 1-2-3 x",
            ),
        ] {
            assert_eq!(
                environment.render_str(source, context! { value => value.clone() }).unwrap(),
                expected,
                "{source}"
            );
        }
    }
}
