//! Fields that give an answer its structure, in the forms of OpenAI, llama.cpp's server and vLLM.

use lookahead_grammar::{Follower, Grammars};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, grammar_error};

/// What form an answer has; one of them, if any.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct StructureFields {
    /// OpenAI's: any JSON object, or JSON by a schema.
    response_format: Option<ResponseFormat>,
    /// A JSON schema, as clients of llama.cpp's server give it.
    #[schema(value_type = Option<Object>)]
    json_schema: Option<Value>,
    /// vLLM's: a schema, a pattern, a choice, or a grammar.
    structured_outputs: Option<StructuredOutputs>,
}

/// What form an answer has.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    kind: String,
    /// The schema, for `json_schema`.
    json_schema: Option<NamedSchema>,
    /// The schema, as llama.cpp's clients give it.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
}

/// A JSON schema.
#[derive(Clone, Debug, Deserialize, ToSchema)]
struct NamedSchema {
    /// The schema.
    #[schema(value_type = Object)]
    schema: Option<Value>,
}

/// What form an answer has.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StructuredOutputs {
    /// A JSON schema.
    #[schema(value_type = Object)]
    Json(Value),
    /// A regular expression that the whole answer matches: the syntax of Rust's `regex`, without look-around.
    Regex(String),
    /// Texts of which the answer is one.
    Choice(Vec<String>),
    /// A grammar in llguidance's dialect of Lark.
    Grammar(String),
}

impl StructureFields {
    /// The name of the field that asks for a structure, and what follows it; `None` where no field does.
    pub(super) fn follower(&self, grammars: &Grammars) -> Result<Option<(&'static str, Follower)>, ApiError> {
        let of_format =
            self.response_format.as_ref().and_then(|format| format.follower(grammars).transpose());
        let of_schema = self
            .json_schema
            .as_ref()
            .map(|schema| grammars.json_schema(schema).map_err(grammar_error("json_schema")));
        let of_outputs = self.structured_outputs.as_ref().map(|outputs| outputs.follower(grammars));
        let asked =
            [("response_format", of_format), ("json_schema", of_schema), ("structured_outputs", of_outputs)];
        let mut asked = asked.into_iter().filter_map(|(name, follower)| Some((name, follower?)));
        match (asked.next(), asked.next()) {
            (Some((first, _)), Some((second, _))) => {
                let message = format!("{first} and {second} cannot be used together; leave one of them out");
                Err(ApiError::unsupported(second, message))
            }
            (Some((name, follower)), None) => Ok(Some((name, follower?))),
            (None, _) => Ok(None),
        }
    }
}

impl ResponseFormat {
    fn follower(&self, grammars: &Grammars) -> Result<Option<Follower>, ApiError> {
        let named = self.json_schema.as_ref().and_then(|named| named.schema.as_ref());
        let follower = match (self.kind.as_str(), named.or(self.schema.as_ref())) {
            ("text", _) => return Ok(None),
            ("json_object" | "json_schema", Some(schema)) => {
                grammars.json_schema(schema).map_err(grammar_error("response_format.json_schema"))
            }
            ("json_object", None) => grammars.json_object().map_err(grammar_error("response_format")),
            ("json_schema", None) => {
                let param = "response_format.json_schema.schema";
                Err(ApiError::invalid(param, format!("{param} is missing")))
            }
            (other, _) => {
                let message = format!(
                    "response_format.type is {other:?}; there are \"text\", \"json_object\" and \"json_schema\""
                );
                Err(ApiError::invalid("response_format.type", message))
            }
        };
        follower.map(Some)
    }
}

impl StructuredOutputs {
    fn follower(&self, grammars: &Grammars) -> Result<Follower, ApiError> {
        let (follower, param) = match self {
            Self::Json(schema) => (grammars.json_schema(schema), "structured_outputs.json"),
            Self::Regex(pattern) => (grammars.regex(pattern), "structured_outputs.regex"),
            Self::Choice(texts) => (grammars.choice(texts), "structured_outputs.choice"),
            Self::Grammar(grammar) => (grammars.lark(grammar), "structured_outputs.grammar"),
        };
        follower.map_err(grammar_error(param))
    }
}
