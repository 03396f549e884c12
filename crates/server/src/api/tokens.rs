//! `POST /tokenize` and `/detokenize`, as llama.cpp's server has them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use lookahead_model::TokenId;
use lookahead_model::tokenizer::{DecodeOptions, EncodeOptions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{self, Fields, PassedOver};
use super::extract::Call;
use crate::admission::Resource;
use crate::error::{ApiError, BodyErrors, ErrorBody};
use crate::state::{Awaited, State};

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
    /// Whether each token comes with its piece of the text.
    #[serde(default)]
    with_pieces: bool,
    /// The model; `/v1/models` lists it.
    model: Option<String>,
}

/// Tokens of a text.
#[derive(Deserialize, ToSchema)]
pub(super) struct DetokenizeRequest {
    tokens: Vec<TokenId>,
    /// The model; `/v1/models` lists it.
    model: Option<String>,
}

/// The tokens of a text.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    tokens: Vec<Token>,
}

/// A token: its id, or that with its piece of the text where pieces are asked for.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Token {
    Id(TokenId),
    WithPiece { id: TokenId, piece: TokenPiece },
}

/// What a token stands for: a text, or bytes where it is a part of a character.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum TokenPiece {
    Text(String),
    Bytes(Vec<u8>),
}

impl Token {
    fn with_piece(id: TokenId, bytes: &[u8]) -> Self {
        let piece = match str::from_utf8(bytes) {
            Ok(text) => TokenPiece::Text(text.to_owned()),
            Err(_) => TokenPiece::Bytes(bytes.to_owned()),
        };
        Self::WithPiece { id, piece }
    }
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
        (status = 404, description = "The model is not served here", body = ErrorBody),
        (status = 429, description = "The key or the server has as much in hand as it may", body = ErrorBody),
        BodyErrors,
    )
)]
pub(super) async fn tokenize(call: Call) -> Result<Response, ApiError> {
    answer(call, |state, fields| {
        let TokenizeRequest { content, add_special, parse_special, with_pieces, model } = fields.part()?;
        let passed_over = fields.refuse_unknown()?;
        let options = EncodeOptions { add_bos: add_special, parse_special: parse_special.unwrap_or(true) };
        let tokenizer = state.models.find(model.as_deref())?.tokenizer();
        let tokens = tokenizer.encode(&content, options);
        let tokens = tokens.map_err(|error| ApiError::invalid("content", error.to_string()))?.into_iter();
        let tokens = if with_pieces {
            tokens.map(|id| Token::with_piece(id, tokenizer.token_bytes(id))).collect()
        } else {
            tokens.map(Token::Id).collect()
        };
        Ok((Tokens { tokens }, passed_over))
    })
    .await
}

/// Turn tokens into a text
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "Tokens",
    request_body = DetokenizeRequest,
    responses(
        (status = 200, description = "Their text", body = Text),
        (status = 404, description = "The model is not served here", body = ErrorBody),
        (status = 429, description = "The key or the server has as much in hand as it may", body = ErrorBody),
        BodyErrors,
    )
)]
pub(super) async fn detokenize(call: Call) -> Result<Response, ApiError> {
    answer(call, |state, fields| {
        let DetokenizeRequest { tokens, model } = fields.part()?;
        let passed_over = fields.refuse_unknown()?;
        let options = DecodeOptions { show_special: true, continuation: true };
        let tokenizer = state.models.find(model.as_deref())?.tokenizer();
        Ok((Text { content: tokenizer.decode(&tokens, options) }, passed_over))
    })
    .await
}

/// Answers a request that `work` turns into an object. The object may be larger than the request, and counts in its place until
/// it has been sent.
pub(super) async fn answer<T: Serialize + 'static>(
    call: Call,
    work: impl FnOnce(&State, &mut Fields) -> Result<(T, PassedOver), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let Call { state, tenant, received, request } = call;
    let (mut ticket, bytes) = body::read(&state, &tenant, request).await?;
    let deadline = received.at + state.options.request_timeout;
    let prepare = {
        let state = Arc::clone(&state);
        move |awaited: &Awaited| {
            let mut fields = Fields::parse(&bytes)?;
            drop(bytes);
            awaited.check()?;
            let (object, passed_over) = work(&state, &mut fields)?;
            passed_over.refuse_if(state.options.strict_fields)?;
            awaited.check()?;
            let json = serde_json::to_vec(&object).map_err(|error| ApiError::internal(error.to_string()))?;
            ticket.hold(Resource::BodyBytes, json.len())?;
            Ok((ticket, json, passed_over))
        }
    };
    let (ticket, json, passed_over) = state.prepare(&tenant, deadline, prepare).await?;
    let body = Body::from(json).map_frame(move |frame| {
        let _until_the_body_ends = &ticket;
        frame
    });
    let mut response = ([(header::CONTENT_TYPE, "application/json")], Body::new(body)).into_response();
    passed_over.tell(&mut response);
    Ok(response)
}
