//! A call, as models write it and as it is told.

use serde::Deserialize;
use serde_json::Value;

/// What a call begins with in the format of Hermes and Qwen.
pub(crate) const CALL_BEGIN: &str = "<tool_call>";
/// What it ends with.
pub(crate) const CALL_END: &str = "</tool_call>";

/// What became certain about an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolDelta {
    /// Text for the user, never empty.
    Content(String),
    /// A call of a tool.
    Call {
        /// The name of the tool.
        name: String,
        /// The JSON text of an object.
        arguments: String,
    },
}

/// Appends content to what is certain.
pub(super) fn release(content: &str, deltas: &mut Vec<ToolDelta>) {
    match deltas.last_mut() {
        _ if content.is_empty() => {}
        Some(ToolDelta::Content(text)) => text.push_str(content),
        _ => deltas.push(ToolDelta::Content(content.to_owned())),
    }
}

/// A call as models write it.
#[derive(Deserialize)]
pub(super) struct WrittenCall {
    name: String,
    #[serde(alias = "parameters")]
    pub(super) arguments: Option<Value>,
}

impl WrittenCall {
    /// The call, unless its arguments are no object. No arguments are none; some models write the object as text.
    pub(super) fn into_delta(self) -> Option<ToolDelta> {
        let arguments = match self.arguments {
            None => "{}".to_owned(),
            Some(object @ Value::Object(_)) => object.to_string(),
            Some(Value::String(text)) => {
                serde_json::from_str::<Value>(&text).ok().filter(Value::is_object)?.to_string()
            }
            Some(_) => return None,
        };
        Some(ToolDelta::Call { name: self.name, arguments })
    }
}

/// The call that `text` begins with, and what stands behind it; `None` for white space.
pub(super) fn read_json(text: &str) -> serde_json::Result<Option<(WrittenCall, &str)>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let call = values.next().transpose()?;
    Ok(call.map(|call| (call, &text[values.byte_offset()..])))
}
