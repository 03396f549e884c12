//! Fields that chats and texts share: `options`, `format`, `think`, and how the answer is sent.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::body::{Fields, PassedOver};
use crate::api::conversation::set_thinking;
use crate::api::known_fields::Treatment;
use crate::api::number::{integer, limit_or_fill, seed};
use crate::api::openai::fields::{LookaheadFields, OneOrMany, SamplingFields, or_default};
use crate::error::ApiError;
use crate::generation::{Rule, Structure};
use crate::served::Served;
use crate::state::State;

/// What a name of a model ends with where Ollama's client adds its usual tag.
const USUAL_TAG: &str = ":latest";

/// Where options stand in a request.
const PLACE: &str = "options.";

/// Options that set up what this server does by itself.
const PASSED_OVER: [&str; 14] = [
    "embedding_only",
    "f16_kv",
    "logits_all",
    "low_vram",
    "main_gpu",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_thread",
    "numa",
    "penalize_newline",
    "use_mlock",
    "use_mmap",
];

/// Fields of both requests.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SharedFields {
    /// The model; `/api/tags` lists it.
    pub(super) model: String,
    /// `json` for any JSON object, or a JSON schema.
    #[schema(value_type = Option<Object>)]
    format: Option<Value>,
    /// Settings of the sampler.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Options>)]
    options: Map<String, Value>,
    /// Whether the answer comes in pieces, a line each; true if it is not given.
    stream: Option<bool>,
    /// Whether the model thinks first, or how much: `low`, `medium` or `high`.
    #[schema(value_type = Option<Object>)]
    think: Option<Think>,
    /// How lookahead is used; never changes the answer. An extension.
    #[serde(default, deserialize_with = "or_default")]
    lookahead: LookaheadFields,
}

/// Whether the model thinks first.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected true, false, \"low\", \"medium\" or \"high\"")]
enum Think {
    Whether(bool),
    Effort(String),
}

/// Settings of the sampler.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Options {
    /// The most tokens of an answer; as many as the context holds where it is -1, -2 or not given.
    #[serde(default, deserialize_with = "limit_or_fill")]
    num_predict: Option<usize>,
    /// As in OpenAI's API, with the same default, 1.
    temperature: Option<f32>,
    #[serde(default, deserialize_with = "integer")]
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    #[serde(default, deserialize_with = "integer")]
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    #[serde(default, deserialize_with = "seed")]
    #[schema(value_type = Option<i64>)]
    seed: Option<u64>,
    stop: Option<OneOrMany>,
}

/// What becomes of an option that this server has not.
fn treatment(name: &str, value: &Value) -> Treatment {
    let is_off = match name {
        "mirostat" => value.as_f64() == Some(0.0),
        "tfs_z" | "typical_p" => value.as_f64() == Some(1.0),
        "mirostat_eta" | "mirostat_tau" => true,
        _ => value.is_null(),
    };
    if is_off {
        Treatment::Passes
    } else if PASSED_OVER.contains(&name) {
        Treatment::PassedOver
    } else {
        Treatment::Refused("is no option of this server")
    }
}

/// What the fields of both requests say.
pub(super) struct Shared {
    pub(super) model: Arc<Served>,
    /// As the client calls it.
    pub(super) name: String,
    pub(super) sampling: SamplingFields,
    /// The most tokens of an answer, and the option that says it.
    pub(super) max_tokens: Option<(&'static str, usize)>,
    pub(super) structure: Option<Structure>,
    pub(super) is_stream: bool,
    /// Variables of the template.
    pub(super) variables: Map<String, Value>,
    pub(super) passed_over: PassedOver,
}

impl SharedFields {
    pub(super) fn read(self, state: &State) -> Result<Shared, ApiError> {
        let mut fields = Fields::of(self.options, treatment, PLACE);
        let options: Options = fields.part()?;
        let passed_over = fields.refuse_unknown()?;
        if options.num_predict == Some(0) {
            let message = "options.num_predict is 0; it must be at least 1, or -1 for no limit";
            return Err(ApiError::invalid("options.num_predict", message));
        }
        let sampling = SamplingFields {
            place: PLACE,
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            repeat_penalty: options.repeat_penalty,
            repeat_last_n: options.repeat_last_n,
            presence_penalty: options.presence_penalty,
            frequency_penalty: options.frequency_penalty,
            seed: options.seed,
            stop: options.stop,
            lookahead: self.lookahead,
            ..SamplingFields::default()
        };
        let structure = self.format.map(read_format).transpose()?.flatten();
        Ok(Shared {
            model: Arc::clone(find_model(state, &self.model)?),
            name: self.model,
            sampling,
            max_tokens: options.num_predict.map(|most| ("options.num_predict", most)),
            structure,
            is_stream: self.stream.unwrap_or(true),
            variables: self.think.map(Think::variables).transpose()?.unwrap_or_default(),
            passed_over,
        })
    }
}

impl Think {
    /// The variables that templates know it by.
    fn variables(self) -> Result<Map<String, Value>, ApiError> {
        let mut variables = Map::new();
        match self {
            Self::Whether(thinks) => set_thinking(&mut variables, Some(thinks), None, "think")?,
            Self::Effort(effort) => set_thinking(&mut variables, Some(true), Some(&effort), "think")?,
        }
        Ok(variables)
    }
}

fn read_format(format: Value) -> Result<Option<Structure>, ApiError> {
    let rule = match format {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) if text == "json" => Rule::AnyJsonObject,
        schema @ Value::Object(_) => Rule::JsonSchema(schema),
        other => {
            let message = format!("format is {other}; there are \"json\" and a JSON schema");
            return Err(ApiError::invalid("format", message));
        }
    };
    Ok(Some(Structure { field: "format", param: "format", rule }))
}

/// The model that a client means: of this name, or of this name without Ollama's usual tag.
pub(super) fn find_model<'s>(state: &'s State, name: &str) -> Result<&'s Arc<Served>, ApiError> {
    let found = state.models.find(Some(name));
    match name.strip_suffix(USUAL_TAG) {
        Some(untagged) if found.is_err() => state.models.find(Some(untagged)),
        _ => found,
    }
}
