//! `POST /api/generate`

use axum::response::Response;
use lookahead_model::Chat;
use lookahead_model::chat_template::Message;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::conversation::refuse_images;
use super::errors::OllamaErrors;
use super::options::SharedFields;
use super::wire::{Form, OllamaWire, object};
use crate::api::body::Fields;
use crate::api::delivery::{self, Outcome, Translated};
use crate::api::extract::Call;
use crate::api::openai::fields::or_default;
use crate::api::warnings::Warnings;
use crate::error::ApiError;
use crate::generation::{AnswerRequest, Answers, FieldNames, Input, Prompt};
use crate::served::Served;
use crate::state::State;

/// A text to be answered.
#[derive(Debug, Deserialize, ToSchema)]
struct GenerateFields {
    /// The text; where it is empty, there is nothing to do but to say that the model is there.
    #[serde(default, deserialize_with = "or_default")]
    prompt: String,
    /// A text that the answer leads to: the model fills in what is between.
    suffix: Option<String>,
    /// What the model is told first.
    system: Option<String>,
    /// Whether the text is the whole prompt, as it stands.
    #[serde(default, deserialize_with = "or_default")]
    raw: bool,
    /// Not supported.
    template: Option<String>,
    /// Not supported.
    #[schema(value_type = Option<Vec<Object>>)]
    images: Option<Vec<Value>>,
    /// Not supported.
    #[schema(value_type = Option<Vec<Object>>)]
    context: Option<Vec<Value>>,
}

/// A request of Ollama's API for an answer to a text.
#[derive(ToSchema)]
#[allow(dead_code, reason = "for the document")]
struct OllamaGenerateRequest {
    #[schema(inline)]
    #[serde(flatten)]
    generate: GenerateFields,
    #[schema(inline)]
    #[serde(flatten)]
    shared: SharedFields,
}

/// Answer a text, as Ollama does
///
/// The text is what a user says in a conversation, or with `raw` the whole prompt. The answer comes as lines of JSON, the last with
/// `done` and the counts; with `stream` false as one object.
#[utoipa::path(
    post,
    path = "/api/generate",
    tag = "Ollama",
    request_body = OllamaGenerateRequest,
    responses(
        (status = 200, description = "The answer, or a stream of its pieces", body = Object),
        OllamaErrors,
    )
)]
pub(in crate::api) async fn complete(call: Call) -> Result<Response, ApiError> {
    delivery::answer_any(call, read).await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Outcome<impl FnOnce(&Answers) -> OllamaWire + Send + use<>>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let (generate, shared): (GenerateFields, SharedFields) = (fields.part()?, fields.part()?);
    let mut passed_over = fields.refuse_unknown()?;
    let shared = shared.read(state)?;
    passed_over.join(shared.passed_over);
    generate.check()?;
    let has_suffix = generate.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty());
    if generate.prompt.is_empty() && !has_suffix {
        let mut loaded = object(Form::Text, &shared.name, "");
        (loaded["done"], loaded["done_reason"]) = (true.into(), "load".into());
        return Ok(Outcome::Object(loaded));
    }
    let input = generate.input(&shared.model, shared.variables);
    let asked = shared.sampling.request(&shared.model, tenant, input)?;
    let names = FieldNames { input: "prompt", ..asked.names };
    let request = AnswerRequest { names, structure: shared.structure, ..asked };
    let request = request.with_max_tokens(shared.max_tokens);
    let name = shared.name;
    let wire = move |answers: &Answers| OllamaWire::new(Form::Text, name, answers.received());
    let is_stream = shared.is_stream;
    let (model, warnings) = (shared.model, Warnings::default());
    Ok(Outcome::Answer(Box::new(Translated { model, request, passed_over, is_stream, warnings, wire })))
}

impl GenerateFields {
    /// Refuses what is not supported.
    fn check(&self) -> Result<(), ApiError> {
        refuse_images("images", self.images.as_deref())?;
        if self.template.as_ref().is_some_and(|template| !template.is_empty()) {
            let message = "template is not supported: the model's own is used; send the whole prompt with raw: true instead";
            return Err(ApiError::unsupported("template", message));
        }
        if self.context.as_ref().is_some_and(|context| !context.is_empty()) {
            let message = "context is not supported; send the conversation to /api/chat";
            return Err(ApiError::unsupported("context", message));
        }
        Ok(())
    }

    /// What is to be answered. A model without a template is given the text as it stands.
    fn input(self, model: &Served, variables: Map<String, Value>) -> Input {
        if let Some(suffix) = self.suffix.filter(|suffix| !suffix.is_empty()) {
            return Input::Texts(vec![Prompt::Around {
                files: Vec::new(),
                before: self.prompt,
                after: suffix,
            }]);
        }
        if self.raw || model.prompts.template().is_none() {
            return Input::Texts(vec![Prompt::Text(self.prompt)]);
        }
        let system = self.system.filter(|system| !system.is_empty());
        let system = system.map(|system| Message::new("system", system));
        let messages = system.into_iter().chain([Message::new("user", self.prompt)]).collect();
        Input::Conversation(Box::new(Chat { variables, ..Chat::new(messages) }), None)
    }
}
