//! JSON schemas as llguidance takes them.

use serde_json::{Map, Value, json};

/// Any JSON object.
pub(crate) fn any_object() -> Value {
    json!({ "type": "object" })
}

/// `schema` with the layout of the JSON: one space behind commas and colons, none elsewhere, as Python's `json.dumps`
/// writes it and chat templates show it. Small models that may choose their whitespace loop in it, and with one layout
/// all that lies between two values is forced, so it costs no guess and few tokens.
///
/// None for what is no schema.
pub(crate) fn laid_out(schema: &Value) -> Option<Value> {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        Value::Bool(_) => Map::from_iter([("allOf".to_owned(), json!([schema]))]),
        _ => return None,
    };
    let layout = json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
    schema.insert("x-guidance".to_owned(), layout);
    Some(Value::Object(schema))
}
