//! `/v1/lookahead`: corpora at run time, and how full things are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, Request, State as FromState};
use http_body_util::BodyExt as _;
use lookahead_model::tokenizer::EncodeOptions;
use lookahead_trie::CorpusBuilder;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Shared, Tenant, Url};
use crate::drafts::{CorpusInfo, DraftStore};
use crate::error::{ApiError, BodyErrors, ErrorBody, NamespaceErrors};
use crate::served::Served;
use crate::state::{State, blocking};

/// Which corpus.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CorpusQuery {
    /// What it is called: up to 64 letters, digits, `-`, `_` and `.`.
    name: String,
    /// A namespace within the caller's own.
    namespace: Option<String>,
    /// The model; `/v1/models` lists it.
    model: Option<String>,
}

/// Which namespace.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NamespaceQuery {
    /// A namespace within the caller's own.
    namespace: Option<String>,
    /// The model; `/v1/models` lists it.
    model: Option<String>,
}

/// A corpus of a namespace.
#[derive(Serialize, ToSchema)]
pub(super) struct CorpusObject {
    name: String,
    /// `corpus`
    object: &'static str,
    /// Tokens of its texts.
    tokens: u64,
    /// Bytes of its file.
    bytes: u64,
}

/// Corpora of a namespace.
#[derive(Serialize, ToSchema)]
pub(super) struct CorpusList {
    /// `list`
    object: &'static str,
    data: Vec<CorpusObject>,
}

/// What became of a corpus.
#[derive(Serialize, ToSchema)]
pub(super) struct Deleted {
    name: String,
    deleted: bool,
}

/// How busy the server is, and what the caller's namespace holds.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    /// Sequences that are being answered.
    running: usize,
    /// Requests that wait.
    queued: usize,
    kv_cache: KvStats,
    namespace: NamespaceObject,
}

/// Memory of KV caches.
#[derive(Serialize, ToSchema)]
struct KvStats {
    /// Tokens whose room is taken, those kept for prompts that begin alike included.
    used_tokens: usize,
    /// Tokens that there is room for.
    total_tokens: usize,
}

/// What a namespace holds.
#[derive(Serialize, ToSchema)]
struct NamespaceObject {
    name: String,
    /// Tokens that can be drafted from.
    tokens: u64,
    /// Of those, the ones learned since the server was started.
    tokens_learned: u64,
    /// Memory.
    bytes: usize,
    /// Bytes of mapped files.
    mapped_bytes: u64,
}

impl From<CorpusInfo> for CorpusObject {
    fn from(CorpusInfo { name, tokens, bytes }: CorpusInfo) -> Self {
        Self { name, object: "corpus", tokens, bytes }
    }
}

/// Add a corpus
///
/// The body is JSON lines; of each object the fields `text`, `output`, `answer` and `reference`, and in `messages` what the
/// assistant says, are learned. A corpus of the same name is replaced.
#[utoipa::path(
    post,
    path = "/v1/lookahead/corpora",
    tag = "Lookahead",
    params(CorpusQuery),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "The corpus", body = CorpusObject),
        (status = 429, description = "There are as many namespaces as may be", body = ErrorBody),
        (status = 500, description = "The corpus cannot be written", body = ErrorBody),
        BodyErrors,
    )
)]
pub(super) async fn add_corpus(
    FromState(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Url(Query(CorpusQuery { name, namespace, model })): Url<Query<CorpusQuery>>,
    request: Request,
) -> Result<Json<CorpusObject>, ApiError> {
    let namespace = DraftStore::name(&tenant, namespace.as_deref())?;
    let model = Arc::clone(state.models.find(model.as_deref())?);
    let texts = read_texts(&state, &model, request.into_body()).await?;
    if texts.tokens() == 0 {
        return Err(ApiError::invalid("body", "the corpus has no text to learn"));
    }
    blocking(move || Ok(Json(model.drafts.add_corpus(&namespace, &name, texts)?.into()))).await
}

/// Reads JSON lines as they come.
async fn read_texts(state: &State, model: &Arc<Served>, mut body: Body) -> Result<CorpusBuilder, ApiError> {
    let (mut texts, mut line, mut number, mut bytes) = (CorpusBuilder::default(), Vec::new(), 0, 0);
    loop {
        let frame = tokio::time::timeout(state.options.client_timeout, body.frame()).await;
        let frame = match frame {
            Err(_) => return Err(ApiError::client_timeout()),
            Ok(Some(Err(error))) => {
                return Err(ApiError::invalid("body", format!("the body could not be read: {error}")));
            }
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
        };
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        if bytes > state.options.max_corpus_bytes {
            return Err(ApiError::too_large(state.options.max_corpus_bytes));
        }
        let mut rest = &data[..];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            number += 1;
            texts = add_line(model, texts, std::mem::take(&mut line), number).await?;
        }
        line.extend_from_slice(rest);
    }
    add_line(model, texts, line, number + 1).await
}

async fn add_line(
    model: &Arc<Served>,
    mut texts: CorpusBuilder,
    line: Vec<u8>,
    number: usize,
) -> Result<CorpusBuilder, ApiError> {
    let model = Arc::clone(model);
    blocking(move || {
        let wrong = |problem: String| ApiError::invalid("body", format!("line {number}: {problem}"));
        let line = str::from_utf8(&line).map_err(|error| wrong(error.to_string()))?;
        for text in lookahead_engine::learnable_texts(line).map_err(|error| wrong(error.to_string()))? {
            let tokens = model.tokenizer().encode(&text, EncodeOptions::default());
            texts.add(&tokens.map_err(|error| wrong(error.to_string()))?);
        }
        Ok(texts)
    })
    .await
}

/// List corpora
#[utoipa::path(
    get,
    path = "/v1/lookahead/corpora",
    tag = "Lookahead",
    params(NamespaceQuery),
    responses(
        (status = 200, description = "The corpora that were sent to the namespace", body = CorpusList),
        NamespaceErrors,
    )
)]
pub(super) async fn list_corpora(
    FromState(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Url(Query(NamespaceQuery { namespace, model })): Url<Query<NamespaceQuery>>,
) -> Result<Json<CorpusList>, ApiError> {
    let namespace = DraftStore::name(&tenant, namespace.as_deref())?;
    let model = Arc::clone(state.models.find(model.as_deref())?);
    blocking(move || {
        let data = model.drafts.corpora(&namespace)?.into_iter().map(Into::into).collect();
        Ok(Json(CorpusList { object: "list", data }))
    })
    .await
}

/// Remove a corpus
#[utoipa::path(
    delete,
    path = "/v1/lookahead/corpora/{name}",
    tag = "Lookahead",
    params(("name" = String, Path, description = "What it is called"), NamespaceQuery),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 404, description = "There is none of this name", body = ErrorBody),
        NamespaceErrors,
    )
)]
pub(super) async fn remove_corpus(
    FromState(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Url(Path(name)): Url<Path<String>>,
    Url(Query(NamespaceQuery { namespace, model })): Url<Query<NamespaceQuery>>,
) -> Result<Json<Deleted>, ApiError> {
    let namespace = DraftStore::name(&tenant, namespace.as_deref())?;
    let model = Arc::clone(state.models.find(model.as_deref())?);
    blocking(move || {
        if model.drafts.remove_corpus(&namespace, &name)? {
            Ok(Json(Deleted { name, deleted: true }))
        } else {
            Err(ApiError::not_found("corpus_not_found", format!("there is no corpus {name:?}")))
        }
    })
    .await
}

/// How busy the server is
#[utoipa::path(
    get,
    path = "/v1/lookahead/stats",
    tag = "Lookahead",
    params(NamespaceQuery),
    responses(
        (status = 200, description = "Numbers of this moment", body = Stats),
        NamespaceErrors,
    )
)]
pub(super) async fn stats(
    FromState(state): Shared,
    Extension(Tenant(tenant)): Extension<Tenant>,
    Url(Query(NamespaceQuery { namespace, model })): Url<Query<NamespaceQuery>>,
) -> Result<Json<Stats>, ApiError> {
    let name = DraftStore::name(&tenant, namespace.as_deref())?;
    let model = Arc::clone(state.models.find(model.as_deref())?);
    blocking(move || {
        let stats = model.drafts.get(&name)?.stats();
        let load = model.worker.load();
        Ok(Json(Stats {
            running: load.running.load(Ordering::Relaxed),
            queued: load.waiting.load(Ordering::Relaxed),
            kv_cache: KvStats {
                used_tokens: load.kv_used_tokens.load(Ordering::Relaxed),
                total_tokens: model.kv_total_tokens,
            },
            namespace: NamespaceObject {
                name,
                tokens: stats.tokens,
                tokens_learned: stats.tokens_learned,
                bytes: stats.bytes,
                mapped_bytes: stats.mapped_bytes,
            },
        }))
    })
    .await
}
