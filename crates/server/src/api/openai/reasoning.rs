//! Fields that say whether and how long a model thinks before it answers.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::conversation::set_thinking;
use crate::api::number::limit;
use crate::error::ApiError;

/// How a model thinks before it answers.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ReasoningFields {
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`, for templates that ask for it; `none` where the model can
    /// answer without thinking.
    reasoning_effort: Option<String>,
    /// Whether the model thinks, where its template asks that.
    enable_thinking: Option<bool>,
    /// The most tokens that the model thinks; it then answers.
    #[serde(
        default,
        alias = "thinking_budget_tokens",
        alias = "thinking_token_budget",
        alias = "reasoning_budget",
        deserialize_with = "limit"
    )]
    thinking_budget: Option<usize>,
}

impl ReasoningFields {
    /// Adds the variables that chat templates read to those that the request names itself, and gives the most tokens that the
    /// model thinks.
    pub(super) fn read(self, variables: &mut Map<String, Value>) -> Result<Option<usize>, ApiError> {
        set_thinking(variables, self.enable_thinking, self.reasoning_effort.as_deref(), "reasoning_effort")?;
        Ok(self.thinking_budget.filter(|&budget| budget < usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(fields: Value, variables: Value) -> Result<(Option<usize>, Value), ApiError> {
        let Value::Object(mut variables) = variables else { panic!("{variables}") };
        let fields: ReasoningFields = serde_json::from_value(fields).unwrap();
        let budget = fields.read(&mut variables)?;
        Ok((budget, variables.into()))
    }

    #[test]
    fn fields_become_variables_of_templates() {
        let off = json!({ "enable_thinking": false, "thinking": false });
        for (fields, variables, expected) in [
            (json!({}), json!({}), (None, json!({}))),
            (
                json!({ "reasoning_effort": "minimal" }),
                json!({}),
                (None, json!({ "reasoning_effort": "low" })),
            ),
            (json!({ "reasoning_effort": "none" }), json!({}), (None, off.clone())),
            (json!({ "enable_thinking": false }), json!({}), (None, off)),
            (
                json!({ "reasoning_effort": "none", "thinking_budget": 7 }),
                json!({ "enable_thinking": true, "thinking": true }),
                (Some(7), json!({ "enable_thinking": true, "thinking": true })),
            ),
            (json!({ "thinking_token_budget": -1 }), json!({}), (None, json!({}))),
        ] {
            assert_eq!(read(fields.clone(), variables).unwrap(), expected, "{fields}");
        }
        let error = read(json!({ "reasoning_effort": "much" }), json!({})).unwrap_err();
        assert!(error.message().contains("\"much\""), "{}", error.message());
    }
}
