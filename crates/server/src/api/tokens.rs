//! `POST /tokenize` and `/detokenize`, as llama.cpp's server has them.

use axum::Json;
use axum::extract::{Request, State as FromState};
use lookahead_model::TokenId;
use lookahead_model::tokenizer::{DecodeOptions, EncodeOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{self, Fields};
use super::{Shared, blocking};
use crate::error::{ApiError, BodyErrors};

/// A text.
#[derive(Deserialize, ToSchema)]
pub(super) struct TokenizeRequest {
    /// The text.
    content: String,
    /// Whether it is the beginning of a prompt: the model's first token is put in front.
    #[serde(default)]
    add_special: bool,
    /// Whether names of control tokens become those tokens; true if it is not given.
    parse_special: Option<bool>,
}

/// Token ids.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct Tokens {
    tokens: Vec<TokenId>,
}

/// A text.
#[derive(Serialize, ToSchema)]
pub(super) struct Text {
    content: String,
}

/// Turn a text into tokens
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "Tokens",
    request_body = TokenizeRequest,
    responses(
        (status = 200, description = "Its tokens", body = Tokens),
        BodyErrors,
    )
)]
pub(super) async fn tokenize(FromState(state): Shared, request: Request) -> Result<Json<Tokens>, ApiError> {
    let bytes = body::read(&state.options, request).await?;
    blocking(move || {
        let mut fields = Fields::parse(&bytes)?;
        let TokenizeRequest { content, add_special, parse_special } = fields.part()?;
        fields.refuse_unknown()?;
        let options = EncodeOptions { add_bos: add_special, parse_special: parse_special.unwrap_or(true) };
        let tokens = state.model.prompts.tokenizer().encode(&content, options);
        let tokens = tokens.map_err(|error| ApiError::invalid("content", error.to_string()))?;
        Ok(Json(Tokens { tokens }))
    })
    .await
}

/// Turn tokens into a text
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "Tokens",
    request_body = Tokens,
    responses(
        (status = 200, description = "Their text", body = Text),
        BodyErrors,
    )
)]
pub(super) async fn detokenize(FromState(state): Shared, request: Request) -> Result<Json<Text>, ApiError> {
    let bytes = body::read(&state.options, request).await?;
    blocking(move || {
        let mut fields = Fields::parse(&bytes)?;
        let Tokens { tokens } = fields.part()?;
        fields.refuse_unknown()?;
        let options = DecodeOptions { show_special: true, continuation: true };
        Ok(Json(Text { content: state.model.prompts.tokenizer().decode(&tokens, options) }))
    })
    .await
}
