//! Calls of functions that an assistant has made.

use serde_json::{Value, json};

use crate::error::ApiError;

/// A call as templates know it: OpenAI's form.
pub(in crate::api) fn call(id: Option<&str>, name: &str, arguments: &Value) -> Value {
    let function = json!({ "name": name, "arguments": arguments });
    match id {
        Some(id) => json!({ "id": id, "type": "function", "function": function }),
        None => json!({ "type": "function", "function": function }),
    }
}

/// Reads a call in OpenAI's form, or in a flat one: its name and arguments, in an object of their own or not.
pub(in crate::api) fn call_of(written: &Value, param: &str) -> Result<Value, ApiError> {
    let function = written.get("function").filter(|function| function.is_object()).unwrap_or(written);
    let name = function["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        let message = format!(
            "{param} is no call of a function: {{\"id\": …, \"type\": \"function\", \"function\": {{\"name\": …, \
             \"arguments\": …}}}}"
        );
        ApiError::invalid(param, message)
    })?;
    let id = ["call_id", "id"].iter().find_map(|field| written[field].as_str());
    let arguments = ["arguments", "input", "args"].iter().map(|field| &function[field]);
    let arguments = match arguments.filter(|arguments| !arguments.is_null()).find(|given| *given != "") {
        Some(given @ (Value::String(_) | Value::Object(_))) => given,
        None => &Value::from("{}"),
        Some(other) => {
            let message =
                format!("{param}: the arguments are {other}; they must be an object or its JSON text");
            return Err(ApiError::invalid(param, message));
        }
    };
    Ok(call(id, name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_in_all_forms() {
        let nested = |id: Option<&str>, arguments: Value| call(id, "f", &arguments);
        for (written, read) in [
            (nested(Some("1"), json!("{\"a\": 1}")), nested(Some("1"), json!("{\"a\": 1}"))),
            (nested(None, json!({"a": 1})), nested(None, json!({"a": 1}))),
            (
                json!({"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}),
                nested(Some("1"), json!("{}")),
            ),
            (json!({"name": "f", "arguments": null}), nested(None, json!("{}"))),
            (
                json!({"type": "function_call", "id": null, "call_id": "c", "name": "f", "arguments": "{}"}),
                nested(Some("c"), json!("{}")),
            ),
            (json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}), nested(Some("t"), json!({}))),
        ] {
            assert_eq!(call_of(&written, "p").unwrap(), read, "{written}");
        }
        for wrong in [
            json!(null),
            json!("f"),
            json!([]),
            json!({}),
            json!({"name": ""}),
            json!({"type": "custom", "custom": {"name": "f", "input": "x"}}),
            json!({"name": "f", "arguments": 3}),
            json!({"name": "f", "arguments": []}),
        ] {
            assert!(
                call_of(&wrong, "messages[1].tool_calls[0]")
                    .unwrap_err()
                    .message()
                    .starts_with("messages[1]"),
                "{wrong}"
            );
        }
    }
}
