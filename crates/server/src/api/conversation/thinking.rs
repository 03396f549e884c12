//! Whether and how much a model is asked to think: variables of its template.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Sets what is asked for, unless the request has set the variable itself. An effort of `none` is no thinking. The effort
/// stands in the field `param`.
pub(in crate::api) fn set_thinking(
    variables: &mut Map<String, Value>,
    enabled: Option<bool>,
    effort: Option<&str>,
    param: &str,
) -> Result<(), ApiError> {
    let mut enabled = enabled;
    if let Some(effort) = effort {
        // Templates know three.
        let told = match effort {
            "none" => None,
            "minimal" | "low" => Some("low"),
            "medium" => Some("medium"),
            "high" | "xhigh" | "max" => Some("high"),
            other => {
                let message = format!(
                    "{param} is {other:?}; there are none, minimal, low, medium, high, xhigh and max"
                );
                return Err(ApiError::invalid(param, message));
            }
        };
        match told {
            Some(told) => drop(variables.entry("reasoning_effort").or_insert_with(|| told.into())),
            None => enabled = enabled.or(Some(false)),
        }
    }
    if let Some(enabled) = enabled {
        // Qwen's name, GLM's and others', and that of DeepSeek, Granite and Kimi.
        for name in ["enable_thinking", "thinking"] {
            variables.entry(name).or_insert(Value::Bool(enabled));
        }
    }
    Ok(())
}
