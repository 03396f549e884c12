//! Who speaks.

use crate::error::ApiError;

/// The role as templates know it.
pub(in crate::api) fn read_role(role: &str, param: &str) -> Result<&'static str, ApiError> {
    match role.trim().to_ascii_lowercase().as_str() {
        "system" | "developer" => Ok("system"), // what reasoning models call it
        "user" => Ok("user"),
        "assistant" => Ok("assistant"),
        "tool" | "function" => Ok("tool"),
        _ => {
            let message = format!(
                "{param}: {role:?} is no role; there are system, developer, user, assistant, tool and function"
            );
            Err(ApiError::invalid(param, message))
        }
    }
}
