//! Whether and how much a model is asked to think: variables of its template.

use serde_json::{Map, Value};

/// Sets what is asked for, unless the request has set the variable itself. An effort of "none" is no thinking.
pub(in crate::api) fn set_thinking(
    variables: &mut Map<String, Value>,
    enabled: Option<bool>,
    effort: Option<&str>,
) {
    let enabled = if effort == Some("none") { Some(false) } else { enabled };
    let effort = effort.filter(|effort| *effort != "none");
    let asked =
        [("enable_thinking", enabled.map(Value::from)), ("reasoning_effort", effort.map(Value::from))];
    for (name, value) in asked {
        if let Some(value) = value {
            variables.entry(name).or_insert(value);
        }
    }
}
