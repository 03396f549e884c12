//! Metadata values, shortened.

use lookahead_model::gguf::{Array, Value};
use serde_json::{Value as Json, json};

/// Elements of an array that are shown, of a longer one only its beginning.
const SHOWN_ELEMENTS: usize = 8;
/// Characters of a string that are shown to people. Programs get all of it.
const SHOWN_CHARACTERS: usize = 80;

/// The value on one line.
pub(super) fn short(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(array) => {
            let mut elements: Vec<String> = beginning(array)
                .iter()
                .map(|element| match element {
                    Json::String(text) => quoted(text),
                    other => other.to_string(),
                })
                .collect();
            if array.len() > SHOWN_ELEMENTS {
                elements.push(format!("… {} {}", array.len(), array.element_type()));
            }
            format!("[{}]", elements.join(", "))
        }
        other => other.to_string(),
    }
}

/// The value for programs: a long array as its type, length and beginning.
pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::U8(value) => json!(value),
        Value::I8(value) => json!(value),
        Value::U16(value) => json!(value),
        Value::I16(value) => json!(value),
        Value::U32(value) => json!(value),
        Value::I32(value) => json!(value),
        Value::U64(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::F32(value) => json!(value),
        Value::F64(value) => json!(value),
        Value::Bool(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Array(array) if array.len() <= SHOWN_ELEMENTS => Json::Array(beginning(array)),
        Value::Array(array) => {
            json!({ "type": array.element_type(), "length": array.len(), "first": beginning(array) })
        }
    }
}

/// The first elements.
fn beginning(array: &Array) -> Vec<Json> {
    fn first<T: Copy + Into<Json>>(values: &[T]) -> Vec<Json> {
        values.iter().take(SHOWN_ELEMENTS).map(|&value| value.into()).collect()
    }
    match array {
        Array::U8(values) => first(values),
        Array::I8(values) => first(values),
        Array::U16(values) => first(values),
        Array::I16(values) => first(values),
        Array::U32(values) => first(values),
        Array::I32(values) => first(values),
        Array::U64(values) => first(values),
        Array::I64(values) => first(values),
        Array::F32(values) => first(values),
        Array::F64(values) => first(values),
        Array::Bool(values) => first(values),
        Array::Strings(values) => values.iter().take(SHOWN_ELEMENTS).map(Json::from).collect(),
        Array::Arrays(values) => values
            .iter()
            .take(SHOWN_ELEMENTS)
            .map(|array| json!({ "type": array.element_type(), "length": array.len() }))
            .collect(),
    }
}

/// A quoted string, its end cut off if it is long.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let length = text.chars().count();
    if length > SHOWN_CHARACTERS { format!("{shown:?}… {length} characters") } else { format!("{shown:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shortened_and_short_ones_are_whole() {
        assert_eq!(short(&Value::from("a\n\"b\"")), r#""a\n\"b\"""#);
        assert_eq!(short(&Value::from("x".repeat(200))), format!("{:?}… 200 characters", "x".repeat(80)));
        assert_eq!(short(&Value::from(vec![1, 2])), "[1, 2]");
        let long: Vec<u32> = (0..100).collect();
        assert_eq!(short(&Value::from(long.clone())), "[0, 1, 2, 3, 4, 5, 6, 7, … 100 u32]");
        let json = to_json(&Value::from(long));
        assert_eq!((json["length"].as_u64(), json["first"].as_array().map(Vec::len)), (Some(100), Some(8)));
        assert_eq!(to_json(&Value::from(0.5f32)), json!(0.5));
    }
}
