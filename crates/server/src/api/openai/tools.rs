//! `tools` and `tool_choice`: the functions that an answer may call.

use lookahead_grammar::{ToolChoice, ToolSpec};
use serde_json::Value;

use crate::error::ApiError;
use crate::generation::Tools;

/// Tools of a request, at most.
const MAX_TOOLS: usize = 128;

/// The functions as a template shows them, and as a grammar needs them; `None` if none may be called.
pub(super) fn read(
    definitions: Vec<Value>,
    choice: Option<&Value>,
    one_at_a_time: bool,
) -> Result<Option<(Vec<Value>, Tools)>, ApiError> {
    let choice = choice.filter(|choice| !choice.is_null());
    if definitions.is_empty() {
        return match choice {
            None => Ok(None),
            Some(Value::String(choice)) if choice == "none" || choice == "auto" => Ok(None),
            Some(_) => Err(ApiError::invalid("tool_choice", "tool_choice wants tools to choose from")),
        };
    }
    if definitions.len() > MAX_TOOLS {
        let message = format!("tools: up to {MAX_TOOLS}, not {}", definitions.len());
        return Err(ApiError::invalid("tools", message));
    }
    let specs = definitions.iter().enumerate().map(|(index, tool)| spec(index, tool));
    let specs: Vec<ToolSpec> = specs.collect::<Result<_, _>>()?;
    let (specs, choice) = match choice {
        None => (specs, ToolChoice::Auto),
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => return Ok(None),
            "auto" => (specs, ToolChoice::Auto),
            "required" if one_at_a_time => (specs, ToolChoice::One),
            "required" => (specs, ToolChoice::Required),
            other => {
                let message = format!(
                    "tool_choice is {other:?}; there are \"none\", \"auto\", \"required\" and a function"
                );
                return Err(ApiError::invalid("tool_choice", message));
            }
        },
        Some(named) => {
            let name = named["function"]["name"].as_str().unwrap_or_default();
            let spec = specs.into_iter().find(|spec| spec.name == name).ok_or_else(|| {
                ApiError::invalid("tool_choice", format!("tool_choice: {name:?} is none of the tools"))
            })?;
            (vec![spec], ToolChoice::One)
        }
    };
    Ok(Some((definitions, Tools { specs, choice })))
}

fn spec(index: usize, tool: &Value) -> Result<ToolSpec, ApiError> {
    let function = &tool["function"];
    let name = function["name"].as_str().filter(|_| tool["type"] == "function");
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
        let message = format!(
            "tools[{index}] is no function with a name: \
             {{\"type\": \"function\", \"function\": {{\"name\": …, \"parameters\": …}}}}"
        );
        ApiError::invalid(format!("tools[{index}]"), message)
    })?;
    let parameters = function.get("parameters").filter(|schema| !schema.is_null()).cloned();
    Ok(ToolSpec { name: name.to_owned(), parameters, strict: function["strict"] == true })
}
