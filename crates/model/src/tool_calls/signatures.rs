//! The tools that may be called, as far as a parser needs them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

/// Deepest chain of references and alternatives that is followed for the type of a parameter.
const DEEPEST: usize = 8;
/// Most alternatives of a type that are looked at: with `$ref`s, work multiplies by them.
const MOST_ALTERNATIVES: usize = 4;

/// How a parameter's value is written where strings stand without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// As it is: the value is a string.
    Text,
    /// As JSON: the value is no string.
    Json,
    /// As either.
    Either,
}

/// The names and the types of the parameters of the tools that may be called; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ToolSignatures(Arc<HashMap<String, HashMap<String, Writing>>>);

impl ToolSignatures {
    /// Reads them from names and JSON schemas of parameters.
    pub fn new<'t>(tools: impl IntoIterator<Item = (&'t str, Option<&'t Value>)>) -> Self {
        let writings = |schema: &Value| -> HashMap<String, Writing> {
            let properties = schema.get("properties").and_then(Value::as_object);
            let named = properties.into_iter().flatten();
            named.map(|(name, property)| (name.clone(), writing(property, schema, DEEPEST))).collect()
        };
        let tools = tools.into_iter();
        Self(Arc::new(
            tools.map(|(name, schema)| (name.to_owned(), schema.map(writings).unwrap_or_default())).collect(),
        ))
    }

    /// Whether no tool is known, so that any name may be one.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether `text` begins the name of a tool.
    pub(super) fn knows_beginning(&self, text: &str) -> bool {
        self.0.keys().any(|name| name.starts_with(text))
    }

    pub(super) fn writing(&self, tool: &str, parameter: &str) -> Writing {
        let writing = self.0.get(tool).and_then(|parameters| parameters.get(parameter));
        writing.copied().unwrap_or(Writing::Either)
    }
}

/// How values of `schema` are written, which stands in `root`.
fn writing(schema: &Value, root: &Value, depth: usize) -> Writing {
    let is_string = |value: &Value| value.is_string();
    let joined = |writings: Vec<Writing>| {
        let first = writings.first().copied().unwrap_or(Writing::Either);
        if writings.iter().all(|writing| *writing == first) { first } else { Writing::Either }
    };
    let of_bool = |is_text| if is_text { Writing::Text } else { Writing::Json };
    if depth == 0 {
        return Writing::Either;
    }
    match schema.get("type") {
        Some(Value::String(name)) => return of_bool(name == "string"),
        Some(Value::Array(names)) if !names.is_empty() => {
            return joined(names.iter().map(|name| of_bool(name == "string")).collect());
        }
        _ => {}
    }
    if let Some(constant) = schema.get("const") {
        return of_bool(is_string(constant));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return joined(values.iter().map(|value| of_bool(is_string(value))).collect());
    }
    if let Some(path) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
        return root.pointer(path).map_or(Writing::Either, |schema| writing(schema, root, depth - 1));
    }
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(schemas) = schema.get(alternatives).and_then(Value::as_array) {
            if schemas.len() > MOST_ALTERNATIVES {
                return Writing::Either;
            }
            return joined(schemas.iter().map(|schema| writing(schema, root, depth / 2)).collect());
        }
    }
    Writing::Either
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_writing_of_a_value_follows_its_schema() {
        let schema = json!({
            "properties": {
                "text": { "type": "string" },
                "count": { "type": "integer" },
                "maybe": { "type": ["string", "null"] },
                "unit": { "enum": ["a", "b"] },
                "mixed": { "enum": ["a", 1] },
                "one": { "const": 1 },
                "optional": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
                "referred": { "$ref": "#/$defs/text" },
                "endless": { "$ref": "#/properties/endless" },
                "any": {}
            },
            "$defs": { "text": { "type": "string" } }
        });
        let tools = ToolSignatures::new([("f", Some(&schema)), ("g", None)]);
        for (parameter, writing) in [
            ("text", Writing::Text),
            ("count", Writing::Json),
            ("maybe", Writing::Either),
            ("unit", Writing::Text),
            ("mixed", Writing::Either),
            ("one", Writing::Json),
            ("optional", Writing::Json),
            ("referred", Writing::Text),
            ("endless", Writing::Either),
            ("any", Writing::Either),
            ("unknown", Writing::Either),
        ] {
            assert_eq!(tools.writing("f", parameter), writing, "{parameter}");
        }
        assert!(tools.knows("g") && !tools.knows("h") && tools.knows_beginning("") && !tools.is_empty());
    }
}
