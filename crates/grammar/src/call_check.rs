//! What of the schemas of tools is checked when a call is complete, as no grammar holds it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::validation::{Work, findings};

/// Checks complete calls against the schemas of their tools, where a grammar does not hold all of those; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CallCheck(Arc<HashMap<String, Value>>);

/// What a check of a call has come to, where that is not that its schema holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFinding {
    /// The tool that is called.
    pub tool: String,
    /// The assertion, and where it stands in the schema; `None` if the schema took too much work.
    pub assertion: Option<(String, String)>,
    /// Whether the assertion was checked, and does not hold. Otherwise that is not known.
    pub is_certain: bool,
}

impl fmt::Display for CallFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call of {:?}: ", self.tool)?;
        match &self.assertion {
            Some((keyword, place)) if self.is_certain => write!(f, "{keyword} at {place} does not hold"),
            Some((keyword, place)) => write!(f, "{keyword} at {place} could not be checked"),
            None => write!(f, "its schema takes too much work to be checked"),
        }
    }
}

impl CallCheck {
    /// A check of tools by their names and schemas.
    pub(crate) fn new(tools: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(Arc::new(tools.into_iter().collect()))
    }

    /// Whether a grammar holds all that the schemas say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What does not hold in the calls of an answer: names, and the JSON texts of complete arguments. Their number does not
    /// multiply the work, which is bounded for all of them: the worst take some hundred milliseconds, so this is nothing for a
    /// thread that others wait for.
    pub fn findings<'c>(&self, calls: impl IntoIterator<Item = (&'c str, &'c str)>) -> Vec<CallFinding> {
        let mut work = Work::default();
        let mut all = Vec::new();
        for (tool, arguments) in calls {
            let Some(schema) = self.0.get(tool) else { continue };
            let Ok(arguments) = serde_json::from_str(arguments) else { continue };
            let finding =
                |assertion, is_certain| CallFinding { tool: tool.to_owned(), assertion, is_certain };
            let found: Vec<CallFinding> = match findings(schema, &arguments, &mut work) {
                Ok(found) => found
                    .into_iter()
                    .map(|one| finding(Some((one.keyword, one.place)), one.is_certain))
                    .collect(),
                Err(_) => vec![finding(None, false)],
            };
            for one in found {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        all
    }
}
