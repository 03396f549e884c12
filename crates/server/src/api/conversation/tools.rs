//! The functions that an answer may call, in the forms of all wires, and the tools of other servers among them.

use lookahead_grammar::{ToolChoice, ToolSpec};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::tool_choice::{Choice, Mode};
use crate::api::warnings::Warnings;
use crate::error::ApiError;
use crate::generation::Tools;

/// Tools of a request, at most.
const MAX_TOOLS: usize = 128;

/// Functions that the model may call.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::api) struct ToolFields {
    /// The functions: `{"type": "function", "function": {"name", "description", "parameters"}}`, the same without the object
    /// in between, or Anthropic's `{"name", "description", "input_schema"}`.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    /// `none`, `auto`, `required` (or `any`), a function by its name, or `allowed_tools`, in the forms of OpenAI and Anthropic.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    tool_choice: Value,
    /// Whether several functions may be called at once.
    parallel_tool_calls: Option<bool>,
    /// The functions in OpenAI's older form: one is called at most.
    #[schema(value_type = Option<Vec<Object>>)]
    functions: Option<Vec<Value>>,
    /// The older form of `tool_choice`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    function_call: Value,
}

/// A tool that a request describes.
enum Tool {
    /// As a template shows it, and as a grammar needs it.
    Function { shown: Value, spec: ToolSpec },
    /// One that other servers run themselves, by what it is called.
    BuiltIn(String),
}

impl ToolFields {
    /// These functions, of which the model may call any.
    pub(in crate::api) fn any_of(tools: Vec<Value>) -> Self {
        Self { tools: Some(tools), ..Self::default() }
    }

    /// Whether functions are described, and called, in OpenAI's older form.
    pub(in crate::api) fn is_older_form(&self) -> bool {
        self.tools.as_ref().is_none_or(Vec::is_empty)
            && self.functions.as_ref().is_some_and(|list| !list.is_empty())
    }

    /// The fields as they were written, for answers that repeat them.
    pub(in crate::api) fn written(&self) -> Map<String, Value> {
        let choice = if self.tool_choice.is_null() { "auto".into() } else { self.tool_choice.clone() };
        let tools = self.tools.clone().unwrap_or_default();
        let fields = [
            ("tools", tools.into()),
            ("tool_choice", choice),
            ("parallel_tool_calls", self.parallel_tool_calls.unwrap_or(true).into()),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }

    /// The functions as a template shows them, and as a grammar needs them; nothing if none may be called.
    pub(in crate::api) fn read(
        self,
        warnings: &mut Warnings,
    ) -> Result<(Vec<Value>, Option<Tools>), ApiError> {
        let is_older_form = self.is_older_form();
        let (field, listed) = match (self.functions, self.tools) {
            (Some(functions), _) if is_older_form => ("functions", functions),
            (functions, tools) if functions.as_ref().is_none_or(Vec::is_empty) => {
                ("tools", tools.unwrap_or_default())
            }
            _ => {
                let message =
                    "tools and functions cannot be used together; functions is the older form of tools";
                return Err(ApiError::invalid("functions", message));
            }
        };
        let (param, choice) = if self.tool_choice.is_null() {
            ("function_call", self.function_call)
        } else {
            ("tool_choice", self.tool_choice)
        };
        let choice = Choice::read(&choice, param)?;
        let one_at_a_time = is_older_form || choice.one_at_a_time || self.parallel_tool_calls == Some(false);
        if listed.is_empty() && !matches!(choice.mode, Mode::Never | Mode::Auto) {
            return Err(ApiError::invalid(param, format!("{param} wants tools to choose from")));
        }
        if listed.len() > MAX_TOOLS {
            let message = format!("{field}: up to {MAX_TOOLS}, not {}", listed.len());
            return Err(ApiError::invalid(field, message));
        }
        let (mut shown, mut specs, mut built_in) = (Vec::new(), Vec::new(), Vec::new());
        for (index, tool) in listed.iter().enumerate() {
            match read_tool(tool, &format!("{field}[{index}]"))? {
                Tool::Function { shown: function, spec } => {
                    shown.push(function);
                    specs.push(spec);
                }
                Tool::BuiltIn(name) => built_in.push((index, name)),
            }
        }
        if choice.mode == Mode::Never {
            return Ok((Vec::new(), None));
        }
        for (index, name) in built_in {
            let param = format!("{field}[{index}]");
            if choice.mode == Mode::Required && choice.only.is_none() {
                let message = format!(
                    "{param}: {name} is a tool that this server does not have; it serves functions that the client runs. \
                     Leave it out, or let the model choose among the others (tool_choice \"auto\")"
                );
                return Err(ApiError::unsupported(&param, message));
            }
            warnings.add(format!("{param}: {name} is left out, as this server does not have it"));
        }
        if let Some(names) = &choice.only {
            if let Some(missing) = names.iter().find(|name| specs.iter().all(|spec| spec.name != **name)) {
                let message = format!("{param}: {missing:?} is none of the functions among the tools");
                return Err(ApiError::invalid(param, message));
            }
            specs.retain(|spec| names.contains(&spec.name));
        }
        if specs.is_empty() {
            return match choice.mode {
                Mode::Required => Err(ApiError::invalid(param, format!("{param} allows no function"))),
                _ => Ok((Vec::new(), None)),
            };
        }
        let choice = match choice.mode {
            Mode::Named => ToolChoice::One,
            Mode::Required if one_at_a_time => ToolChoice::One,
            Mode::Required => ToolChoice::Required,
            Mode::Auto | Mode::Never if one_at_a_time => ToolChoice::AtMostOne,
            Mode::Auto | Mode::Never => ToolChoice::Auto,
        };
        Ok((shown, Some(Tools { specs, choice })))
    }
}

fn read_tool(tool: &Value, param: &str) -> Result<Tool, ApiError> {
    let kind = tool["type"].as_str();
    let has_schema = tool["input_schema"].is_object();
    let function = match (kind, &tool["function"]) {
        (None | Some("function"), nested @ Value::Object(_)) => nested,
        (None | Some("function"), _) => tool,
        (Some("custom"), _) if has_schema => tool,
        (Some(kind), _) => {
            let name = tool["name"].as_str().map_or_else(String::new, |name| format!(" {name:?}"));
            return Ok(Tool::BuiltIn(format!("{kind}{name}")));
        }
    };
    let name = function["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
        let message = format!(
            "{param} is no function with a name: \
             {{\"type\": \"function\", \"function\": {{\"name\": …, \"parameters\": …}}}}"
        );
        ApiError::invalid(param, message)
    })?;
    let parameters = ["parameters", "input_schema"].iter().map(|field| &function[field]);
    let parameters = parameters.into_iter().find(|schema| !schema.is_null()).cloned();
    let described = if std::ptr::eq(function, tool) {
        flat(name, &function["description"], parameters.as_ref())
    } else {
        nested(function)
    };
    let shown = json!({ "type": "function", "function": described });
    Ok(Tool::Function {
        shown,
        spec: ToolSpec { name: name.to_owned(), parameters, strict: function["strict"] == true },
    })
}

/// A function as the model sees it: as it was written, but for what only servers read.
fn nested(function: &Value) -> Value {
    let fields = function.as_object().into_iter().flatten();
    let fields = fields.filter(|(name, value)| *name != "strict" && !value.is_null());
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The same for a function of which the fields stand among others.
fn flat(name: &str, description: &Value, parameters: Option<&Value>) -> Value {
    let mut fields = Map::from_iter([("name".to_owned(), name.into())]);
    if description.is_string() {
        fields.insert("description".to_owned(), description.clone());
    }
    if let Some(schema) = parameters {
        fields.insert("parameters".to_owned(), schema.clone());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Read {
        shown: Vec<Value>,
        tools: Option<Tools>,
        warnings: String,
    }

    fn read(fields: Value) -> Result<Read, ApiError> {
        let fields: ToolFields = serde_json::from_value(fields).unwrap();
        let mut warnings = Warnings::default();
        let (shown, tools) = fields.read(&mut warnings)?;
        Ok(Read { shown, tools, warnings: format!("{warnings:?}") })
    }

    fn schema() -> Value {
        json!({"type": "object", "properties": {"a": {"type": "integer"}}})
    }

    #[test]
    fn a_function_is_the_same_in_all_forms() {
        let shown = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": schema()}});
        for fields in [
            json!({"tools": [shown]}),
            json!({"tools": [{"function": {"name": "f", "description": "d", "parameters": schema(), "strict": true}}]}),
            json!({"tools": [{"type": "function", "name": "f", "description": "d", "parameters": schema(), "strict": false}]}),
            json!({"tools": [{"name": "f", "description": "d", "parameters": schema()}]}),
            json!({"tools": [{"name": "f", "description": "d", "input_schema": schema(), "cache_control": {"type": "ephemeral"}}]}),
            json!({"tools": [{"type": "custom", "name": "f", "description": "d", "input_schema": schema()}]}),
            json!({"functions": [{"name": "f", "description": "d", "parameters": schema()}]}),
            json!({"functions": [{"name": "f", "description": "d", "parameters": schema()}], "function_call": "auto", "tools": []}),
        ] {
            let read = read(fields.clone()).unwrap();
            let tools = read.tools.unwrap();
            let is_strict = fields.to_string().contains("\"strict\":true");
            assert_eq!(read.shown, std::slice::from_ref(&shown), "{fields}");
            assert_eq!(
                tools.specs,
                [ToolSpec { name: "f".to_owned(), parameters: Some(schema()), strict: is_strict }],
                "{fields}"
            );
            // The older form has room for one call.
            let is_older = fields["functions"].is_array();
            let choice = if is_older { ToolChoice::AtMostOne } else { ToolChoice::Auto };
            assert_eq!(tools.choice, choice, "{fields}");
        }
    }

    #[test]
    fn a_choice_limits_what_may_be_called_and_not_what_is_shown() {
        let tools = json!([{"name": "f"}, {"name": "g"}]);
        for (choice, parallel, names, expected) in [
            (json!(null), json!(null), &["f", "g"][..], ToolChoice::Auto),
            (json!(null), json!(false), &["f", "g"], ToolChoice::AtMostOne),
            (json!("auto"), json!(false), &["f", "g"], ToolChoice::AtMostOne),
            (
                json!({"type": "auto", "disable_parallel_tool_use": true}),
                json!(null),
                &["f", "g"],
                ToolChoice::AtMostOne,
            ),
            (json!("required"), json!(true), &["f", "g"], ToolChoice::Required),
            (json!({"type": "any"}), json!(false), &["f", "g"], ToolChoice::One),
            (
                json!({"type": "any", "disable_parallel_tool_use": true}),
                json!(null),
                &["f", "g"],
                ToolChoice::One,
            ),
            (json!({"type": "tool", "name": "g"}), json!(null), &["g"], ToolChoice::One),
            (
                json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}),
                json!(null),
                &["f"],
                ToolChoice::Required,
            ),
        ] {
            let fields = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel});
            let Read { shown, tools: read, .. } = read(fields).unwrap();
            let read = read.unwrap();
            let allowed: Vec<&str> = read.specs.iter().map(|spec| spec.name.as_str()).collect();
            assert_eq!((shown.len(), &*allowed, read.choice), (2, names, expected), "{choice}");
        }
        let functions = json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}});
        assert_eq!(read(functions).unwrap().tools.unwrap().choice, ToolChoice::One);
        for none in [
            json!({}),
            json!({"tools": null, "tool_choice": "auto"}),
            json!({"tools": [], "tool_choice": {"type": "none"}}),
            json!({"tools": tools, "tool_choice": "none"}),
            json!({"functions": [{"name": "f"}], "function_call": "none"}),
        ] {
            let read = read(none.clone()).unwrap();
            assert!(read.tools.is_none() && read.shown.is_empty(), "{none}");
        }
    }

    #[test]
    fn tools_of_other_servers_are_left_out_with_a_warning_or_refused_by_name() {
        let built_in = [
            json!({"type": "web_search"}),
            json!({"type": "mcp", "server_label": "x"}),
            json!({"type": "custom", "name": "apply_patch", "format": {"type": "text"}}),
            json!({"type": "bash_20250124", "name": "bash"}),
        ];
        for tool in built_in {
            let name = tool["type"].as_str().unwrap();
            let Read { shown, warnings, .. } = read(json!({"tools": [tool, {"name": "f"}]})).unwrap();
            assert_eq!(shown.len(), 1);
            assert!(warnings.contains(name) && warnings.contains("tools[0]"), "{warnings}");
            let Read { tools, warnings, .. } = read(json!({"tools": [tool]})).unwrap();
            assert!(tools.is_none() && warnings.contains(name), "{warnings}");
            let named =
                json!({"tools": [tool, {"name": "f"}], "tool_choice": {"type": "function", "name": "f"}});
            assert!(read(named).unwrap().warnings.contains(name));
            let error = read(json!({"tools": [{"name": "f"}, tool], "tool_choice": "required"})).unwrap_err();
            assert!(error.message().starts_with(&format!("tools[1]: {name}")), "{}", error.message());
        }
    }

    #[test]
    fn what_is_wrong_with_tools_is_named() {
        let many: Vec<Value> = (0..200).map(|index| json!({"name": format!("f{index}")})).collect();
        for (fields, message) in [
            (json!({"tools": [{"type": "function"}]}), "tools[0] is no function"),
            (json!({"tools": [{"name": "f"}, 3]}), "tools[1] is no function"),
            (json!({"tools": [{"type": "function", "function": {"name": ""}}]}), "tools[0] is no function"),
            (json!({"functions": [{}]}), "functions[0] is no function"),
            (json!({"functions": [{"name": "f"}], "tools": [{"name": "f"}]}), "tools and functions"),
            (json!({"tool_choice": "required"}), "tool_choice wants tools"),
            (json!({"tools": [], "tool_choice": {"type": "any"}}), "tool_choice wants tools"),
            (json!({"tools": [{"name": "f"}], "tool_choice": {"name": "g"}}), "tool_choice: \"g\" is none"),
            (
                json!({"functions": [{"name": "f"}], "function_call": {"name": "g"}}),
                "function_call: \"g\" is none",
            ),
            (
                json!({"tools": [{"name": "f"}], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}}),
                "tool_choice allows no function",
            ),
            (json!({"tools": many}), "tools: up to 128, not 200"),
        ] {
            let error = read(fields.clone()).unwrap_err();
            assert!(error.message().starts_with(message), "{fields}: {}", error.message());
        }
    }
}
