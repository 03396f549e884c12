//! Fields that give an answer its structure, in the forms of OpenAI, llama.cpp's server and vLLM.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::generation::{Rule, Structure};

/// What form an answer has; one of them, if any.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::api) struct StructureFields {
    /// OpenAI's: any JSON object, or JSON by a schema.
    response_format: Option<ResponseFormat>,
    /// A JSON schema, as clients of llama.cpp's server give it.
    #[schema(value_type = Option<Object>)]
    json_schema: Option<Value>,
    /// A grammar in GBNF, as clients of llama.cpp's server give it.
    grammar: Option<String>,
    /// vLLM's: a schema, a pattern, a choice, or a grammar.
    structured_outputs: Option<StructuredOutputs>,
    /// vLLM's older name of `structured_outputs.json`.
    #[schema(value_type = Option<Object>)]
    guided_json: Option<Value>,
    /// vLLM's older name of `structured_outputs.regex`.
    guided_regex: Option<String>,
    /// vLLM's older name of `structured_outputs.choice`.
    guided_choice: Option<Vec<String>>,
    /// vLLM's older name of `structured_outputs.grammar`.
    guided_grammar: Option<String>,
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

/// What form an answer has; one of them, if any.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StructuredOutputs {
    /// A JSON schema, or its text.
    #[schema(value_type = Option<Object>)]
    json: Option<Value>,
    /// A regular expression that the whole answer matches: the syntax of Rust's `regex`, without look-around.
    regex: Option<String>,
    /// Texts of which the answer is one.
    choice: Option<Vec<String>>,
    /// A grammar in llguidance's dialect of Lark, or in GBNF.
    grammar: Option<String>,
    /// Whether the answer is any JSON object.
    json_object: Option<bool>,
    /// Ignored: nothing falls back.
    #[allow(dead_code)]
    disable_fallback: Option<bool>,
    /// Ignored: JSON has one layout.
    #[allow(dead_code)]
    disable_any_whitespace: Option<bool>,
    /// Not supported: only null.
    #[schema(value_type = Option<Object>)]
    whitespace_pattern: Option<Value>,
    /// Not supported: only null.
    #[schema(value_type = Option<Object>)]
    structural_tag: Option<Value>,
    /// Not supported: only false; the schema says it.
    disable_additional_properties: Option<bool>,
}

impl StructureFields {
    /// The form that is asked for; `None` where no field asks for one.
    pub(in crate::api) fn read(self) -> Result<Option<Structure>, ApiError> {
        let of_format = self.response_format.map(ResponseFormat::read).transpose()?.flatten();
        let of_outputs = self.structured_outputs.unwrap_or_default().read()?;
        let grammar = self.grammar.filter(|grammar| !grammar.is_empty());
        let rules = [
            ("json_schema", self.json_schema.map(Rule::JsonSchema)),
            ("grammar", grammar.map(Rule::Gbnf)),
            ("guided_json", schema_of("guided_json", self.guided_json)?),
            ("guided_regex", self.guided_regex.map(Rule::Regex)),
            ("guided_choice", self.guided_choice.map(Rule::Choice)),
            ("guided_grammar", self.guided_grammar.map(Rule::Grammar)),
        ];
        let of_rules = of_outputs.into_iter().chain(rules);
        let of_rules = of_rules.map(|(field, rule)| Some(Structure { field, param: field, rule: rule? }));
        let mut asked = [of_format].into_iter().chain(of_rules).flatten();
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

/// The rule of a schema in the field `name`, which vLLM takes as its text too.
fn schema_of(name: &'static str, schema: Option<Value>) -> Result<Option<Rule>, ApiError> {
    let schema = match schema {
        Some(Value::String(text)) => serde_json::from_str(&text)
            .map_err(|error| ApiError::invalid(name, format!("{name} is not valid JSON: {error}")))?,
        schema => schema,
    };
    Ok(schema.map(Rule::JsonSchema))
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
    /// The rules that there may be, each with its place.
    fn read(self) -> Result<[(&'static str, Option<Rule>); 5], ApiError> {
        let unsupported = [
            ("structured_outputs.whitespace_pattern", self.whitespace_pattern.is_some()),
            ("structured_outputs.structural_tag", self.structural_tag.is_some()),
            (
                "structured_outputs.disable_additional_properties",
                self.disable_additional_properties == Some(true),
            ),
        ];
        if let Some((param, _)) = unsupported.into_iter().find(|(_, is_asked)| *is_asked) {
            return Err(ApiError::unsupported(param, format!("{param} is not supported; leave it out")));
        }
        let json = "structured_outputs.json";
        Ok([
            (json, schema_of(json, self.json)?),
            ("structured_outputs.regex", self.regex.map(Rule::Regex)),
            ("structured_outputs.choice", self.choice.map(Rule::Choice)),
            ("structured_outputs.grammar", self.grammar.map(Rule::Grammar)),
            (
                "structured_outputs.json_object",
                self.json_object.filter(|asks| *asks).map(|_| Rule::AnyJsonObject),
            ),
        ])
    }
}
