//! `POST /infill`

use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::completion::{NativeFields, NativeRequest};
use super::completion_wire::NativeWire;
use crate::api::body::Fields;
use crate::api::delivery::{self, Translated};
use crate::api::extract::Call;
use crate::api::openai::fields::{SamplingFields, or_default};
use crate::api::openai::structure::StructureFields;
use crate::error::{ApiError, BodyErrors, GenerationErrors};
use crate::generation::{Answers, Prompt};
use crate::state::State;

/// A gap to be filled.
#[derive(Debug, Deserialize, ToSchema)]
struct GapFields {
    /// What stands before the gap.
    #[serde(default, deserialize_with = "or_default")]
    input_prefix: String,
    /// What stands behind it.
    #[serde(default, deserialize_with = "or_default")]
    input_suffix: String,
    /// Other files that the model is shown first.
    #[serde(default, deserialize_with = "or_default")]
    input_extra: Vec<ExtraFile>,
    /// The beginning of what fills the gap, behind `input_prefix`.
    #[serde(default, deserialize_with = "or_default")]
    prompt: String,
}

/// A file that the model is shown first.
#[derive(Debug, Deserialize, ToSchema)]
struct ExtraFile {
    /// What it is called.
    #[serde(default, deserialize_with = "or_default")]
    filename: String,
    /// What it holds.
    text: String,
}

/// A gap to be filled, as llama.cpp's server takes it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "for the document")]
struct InfillRequest {
    #[schema(inline)]
    #[serde(flatten)]
    gap: GapFields,
    #[schema(inline)]
    #[serde(flatten)]
    native: NativeFields,
    #[schema(inline)]
    #[serde(flatten)]
    structure: StructureFields,
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// Fill in the middle, as llama.cpp's server does
///
/// For models that were trained for it. The answer has the form of `/completion`.
#[utoipa::path(
    post,
    path = "/infill",
    tag = "llama.cpp",
    request_body = InfillRequest,
    responses(
        (status = 200, description = "The answer, or a stream of its pieces", body = Object),
        BodyErrors,
        GenerationErrors,
    )
)]
pub(in crate::api) async fn complete(call: Call) -> Result<Response, ApiError> {
    delivery::answer(call, read).await
}

/// Reads a request.
fn read(
    state: &State,
    tenant: &str,
    body: &[u8],
) -> Result<Translated<impl FnOnce(&Answers) -> NativeWire + Send + use<>>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let gap: GapFields = fields.part()?;
    let (request, passed_over) = NativeRequest::read(&mut fields)?;
    let files = gap.input_extra.into_iter().map(|file| (file.filename, file.text)).collect();
    let prompt = Prompt::Around { files, before: gap.input_prefix + &gap.prompt, after: gap.input_suffix };
    request.translate(state, tenant, prompt, passed_over)
}
