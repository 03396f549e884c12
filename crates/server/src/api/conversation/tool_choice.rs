//! `tool_choice` in all its forms: which functions an answer may call, and whether it must.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::ApiError;

/// Which functions may be called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) mode: Mode,
    /// Only these functions.
    pub(super) only: Option<BTreeSet<String>>,
    /// Whether no two calls are made at once.
    pub(super) one_at_a_time: bool,
}

/// Whether functions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// None is.
    Never,
    /// The model decides.
    Auto,
    /// One is, or several.
    Required,
    /// The one that is named is, once.
    Named,
}

impl Choice {
    /// Reads a choice, of which `param` is the place; nothing is the model's own choice.
    pub(super) fn read(choice: &Value, param: &str) -> Result<Self, ApiError> {
        let one_at_a_time = choice["disable_parallel_tool_use"] == true;
        let of = |mode, only| Ok(Self { mode, only, one_at_a_time });
        let kind = choice.as_str().or_else(|| choice["type"].as_str());
        match (kind.map(str::to_ascii_lowercase).as_deref(), name_of(choice)) {
            (None, None) if choice.is_null() => of(Mode::Auto, None),
            (Some("none"), _) => of(Mode::Never, None),
            (Some("auto"), _) => of(Mode::Auto, None),
            (Some("required" | "any"), _) => of(Mode::Required, None),
            (Some("allowed_tools"), _) => {
                // In an object of their own in chats, beside the type in responses.
                let allowed = choice.get("allowed_tools").unwrap_or(choice);
                let names = allowed["tools"].as_array().into_iter().flatten().filter_map(name_of);
                let mode = if allowed["mode"] == "required" { Mode::Required } else { Mode::Auto };
                of(mode, Some(names.map(str::to_owned).collect()))
            }
            (None | Some("function" | "tool" | "custom"), Some(name)) => {
                of(Mode::Named, Some(BTreeSet::from([name.to_owned()])))
            }
            _ => {
                let message = format!(
                    "{param} is {choice}; there are \"none\", \"auto\", \"required\" (or \"any\"), a function by its name, \
                     and allowed_tools"
                );
                Err(ApiError::invalid(param, message))
            }
        }
    }
}

/// The name of a function, in an object of its own or not.
fn name_of(tool: &Value) -> Option<&str> {
    let name = tool["function"]["name"].as_str().or_else(|| tool["name"].as_str());
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_choice_is_read_in_all_forms() {
        let only = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
        for (choice, mode, names) in [
            (json!(null), Mode::Auto, None),
            (json!("auto"), Mode::Auto, None),
            (json!("none"), Mode::Never, None),
            (json!("required"), Mode::Required, None),
            (json!("any"), Mode::Required, None),
            (json!("ANY"), Mode::Required, None),
            (json!({"type": "auto"}), Mode::Auto, None),
            (json!({"type": "any"}), Mode::Required, None),
            (json!({"type": "none"}), Mode::Never, None),
            (json!({"type": "required"}), Mode::Required, None),
            (json!({"type": "tool", "name": "f"}), Mode::Named, only(&["f"])),
            (json!({"type": "function", "name": "f"}), Mode::Named, only(&["f"])),
            (json!({"type": "function", "function": {"name": "f"}}), Mode::Named, only(&["f"])),
            (json!({"name": "f"}), Mode::Named, only(&["f"])),
            (
                json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
                Mode::Auto,
                only(&["f"]),
            ),
            (
                json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [
                    {"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]}}),
                Mode::Required,
                only(&["f", "g"]),
            ),
        ] {
            let read = Choice::read(&choice, "tool_choice").unwrap();
            assert_eq!(read, Choice { mode, only: names, one_at_a_time: false }, "{choice}");
        }
        let one = json!({"type": "any", "disable_parallel_tool_use": true});
        assert!(Choice::read(&one, "tool_choice").unwrap().one_at_a_time);
    }

    #[test]
    fn what_is_no_choice_is_refused_as_it_was_written() {
        for wrong in [
            json!("maybe"),
            json!(3),
            json!([]),
            json!({}),
            json!({"type": "function"}),
            json!({"type": "web_search_preview"}),
        ] {
            let error = Choice::read(&wrong, "tool_choice").unwrap_err();
            assert!(error.message().contains(&wrong.to_string()), "{}", error.message());
        }
    }
}
