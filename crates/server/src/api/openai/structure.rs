//! Fields that give an answer its structure, in the forms of OpenAI, llama.cpp's server and vLLM.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::generation::{Rule, Structure};

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
    /// The form that is asked for; `None` where no field asks for one.
    pub(super) fn read(self) -> Result<Option<Structure>, ApiError> {
        let of_schema = self.json_schema.map(|schema| Structure {
            field: "json_schema",
            param: "json_schema",
            rule: Rule::JsonSchema(schema),
        });
        let of_format = self.response_format.map(ResponseFormat::read).transpose()?.flatten();
        let of_outputs = self.structured_outputs.map(StructuredOutputs::read);
        let mut asked = [of_format, of_schema, of_outputs].into_iter().flatten();
        match (asked.next(), asked.next()) {
            (Some(first), Some(second)) => {
                let (first, second) = (first.field, second.field);
                let message = format!("{first} and {second} cannot be used together; leave one of them out");
                Err(ApiError::unsupported(second, message))
            }
            (asked, _) => Ok(asked),
        }
    }
}

impl ResponseFormat {
    fn read(self) -> Result<Option<Structure>, ApiError> {
        let schema = self.json_schema.and_then(|named| named.schema).or(self.schema);
        let (param, rule) = match (self.kind.as_str(), schema) {
            ("text", _) => return Ok(None),
            ("json_object" | "json_schema", Some(schema)) => {
                ("response_format.json_schema", Rule::JsonSchema(schema))
            }
            ("json_object", None) => ("response_format", Rule::AnyJsonObject),
            ("json_schema", None) => {
                let param = "response_format.json_schema.schema";
                return Err(ApiError::invalid(param, format!("{param} is missing")));
            }
            (other, _) => {
                let message = format!(
                    "response_format.type is {other:?}; there are \"text\", \"json_object\" and \"json_schema\""
                );
                return Err(ApiError::invalid("response_format.type", message));
            }
        };
        Ok(Some(Structure { field: "response_format", param, rule }))
    }
}

impl StructuredOutputs {
    fn read(self) -> Structure {
        let (param, rule) = match self {
            Self::Json(schema) => ("structured_outputs.json", Rule::JsonSchema(schema)),
            Self::Regex(pattern) => ("structured_outputs.regex", Rule::Regex(pattern)),
            Self::Choice(texts) => ("structured_outputs.choice", Rule::Choice(texts)),
            Self::Grammar(grammar) => ("structured_outputs.grammar", Rule::Grammar(grammar)),
        };
        Structure { field: "structured_outputs", param, rule }
    }
}
