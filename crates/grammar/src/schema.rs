//! What JSON schemas say that grammars cannot enforce.

use serde_json::{Map, Value};

use crate::json;

/// Keywords that assert what no grammar can hold.
const UNENFORCEABLE: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "uniqueItems",
    "contentSchema",
    "$recursiveRef",
    "$recursiveAnchor",
    "$dynamicRef",
    "$dynamicAnchor",
];

/// Formats of strings that are enforced; others are annotations, as JSON Schema has it.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Keywords whose value may be null.
const NULLABLE: &[&str] = &["const", "default", "examples"];

/// Takes out of a schema what says nothing: formats that are not enforced, and keywords that are null.
pub(crate) fn tidy(schema: &mut Value) {
    visit(schema, &mut String::new(), &mut |keywords, _| {
        keywords.retain(|keyword, value| match (keyword.as_str(), &*value) {
            ("format", Value::String(format)) => FORMATS.contains(&format.as_str()),
            ("uniqueItems", Value::Bool(asks)) => *asks,
            (keyword, Value::Null) => NULLABLE.contains(&keyword),
            _ => true,
        });
    });
}

/// Takes out of a schema what cannot be enforced, and says what that was. With `alternatives`, one value may satisfy
/// several alternatives of a `oneOf`.
pub(crate) fn relax(schema: &mut Value, alternatives: bool) -> Vec<String> {
    let mut relaxed = Vec::new();
    visit(schema, &mut String::new(), &mut |keywords, place| {
        keywords.retain(|keyword, value| {
            let is_enforceable = is_enforceable(keyword, value);
            if !is_enforceable {
                relaxed.push(format!("{keyword} at {place}"));
            }
            is_enforceable
        });
        if alternatives
            && !keywords.contains_key("anyOf")
            && let Some(one_of) = keywords.remove("oneOf")
        {
            relaxed.push(format!("that only one alternative fits, oneOf at {place},"));
            keywords.insert("anyOf".to_owned(), one_of);
        }
    });
    relaxed
}

/// Whether a schema holds a `oneOf`, if only as a name.
pub(crate) fn has_alternatives(schema: &Value) -> bool {
    match schema {
        Value::Object(keywords) => keywords.contains_key("oneOf") || keywords.values().any(has_alternatives),
        Value::Array(values) => values.iter().any(has_alternatives),
        _ => false,
    }
}

/// Why a schema is refused, with the place of what cannot be enforced.
pub(crate) fn explained(problem: String, schema: &Value) -> String {
    match relax(&mut schema.clone(), false).first() {
        Some(unenforceable) => format!("{unenforceable} cannot be enforced ({problem})"),
        None => problem,
    }
}

fn is_enforceable(keyword: &str, value: &Value) -> bool {
    match (keyword, value) {
        ("pattern", Value::String(pattern)) => !looks_around(pattern),
        ("patternProperties", Value::Object(patterns)) => {
            !patterns.keys().any(|pattern| looks_around(pattern))
        }
        // Nothing is fetched, and only places are found.
        ("$ref", Value::String(target)) => target == "#" || target.starts_with("#/"),
        _ => !UNENFORCEABLE.contains(&keyword) && json::is_held(keyword, value),
    }
}

/// Whether a pattern looks ahead, looks behind, or refers to what it matched: no automaton does.
pub(crate) fn looks_around(pattern: &str) -> bool {
    let mut characters = pattern.char_indices();
    while let Some((at, character)) = characters.next() {
        let rest = &pattern[at + character.len_utf8()..];
        match character {
            '\\' if rest.starts_with(|next: char| ('1'..='9').contains(&next) || next == 'k') => return true,
            '\\' => {
                characters.next();
            }
            '(' if ["?=", "?!", "?<=", "?<!"].iter().any(|look| rest.starts_with(look)) => return true,
            _ => {}
        }
    }
    false
}

/// Shows the keywords of a schema and of all schemas in it, the inner ones last. Whoever calls this has bounded the depth.
fn visit(schema: &mut Value, place: &mut String, look: &mut impl FnMut(&mut Map<String, Value>, &str)) {
    let Value::Object(keywords) = schema else { return };
    look(keywords, if place.is_empty() { "/" } else { place.as_str() });
    let length = place.len();
    for (keyword, value) in keywords {
        let mut inner = |name: &str, schema: &mut Value| {
            place.push('/');
            place.push_str(keyword);
            if !name.is_empty() {
                place.push('/');
                place.push_str(name);
            }
            visit(schema, place, look);
            place.truncate(length);
        };
        match (keyword.as_str(), value) {
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                Value::Object(named),
            ) => {
                for (name, schema) in named {
                    inner(name, schema);
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                for (index, schema) in schemas.iter_mut().enumerate() {
                    inner(&index.to_string(), schema);
                }
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => inner("", schema),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_taken_out() {
        let mut schema = json!({
            "type": "object", "required": null, "const": null,
            "properties": {
                "format": { "type": "string", "format": "uri-reference" },
                "when": { "type": "string", "format": "date" },
                "list": { "uniqueItems": false, "items": { "format": "color", "description": null } }
            }
        });
        tidy(&mut schema);
        let tidied = json!({
            "type": "object", "const": null,
            "properties": {
                "format": { "type": "string" },
                "when": { "type": "string", "format": "date" },
                "list": { "items": {} }
            }
        });
        assert_eq!(schema, tidied);
    }

    #[test]
    fn what_is_left_out_is_named_with_its_place() {
        let mut schema = json!({
            "properties": {
                "not": { "type": "array", "uniqueItems": true, "items": { "not": {} } },
                "far": { "$ref": "https://example.com/a" },
                "near": { "$ref": "#/$defs/a" },
                "mail": { "pattern": "^(?!\\.)x" }, "fine": { "pattern": "\\(?=" }
            },
            "$defs": { "a": { "oneOf": [true, { "if": {} }] } }
        });
        let expected = [
            "uniqueItems at /properties/not",
            "not at /properties/not/items",
            "$ref at /properties/far",
            "pattern at /properties/mail",
            "if at /$defs/a/oneOf/1",
        ];
        assert!(has_alternatives(&schema));
        assert_eq!(relax(&mut schema, false), expected);
        assert_eq!(relax(&mut schema, true), ["that only one alternative fits, oneOf at /$defs/a,"]);
        let relaxed = json!({
            "properties": {
                "not": { "type": "array", "items": {} },
                "far": {}, "near": { "$ref": "#/$defs/a" }, "mail": {}, "fine": { "pattern": "\\(?=" }
            },
            "$defs": { "a": { "anyOf": [true, {}] } }
        });
        assert_eq!(schema, relaxed);
    }
}
