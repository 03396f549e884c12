//! `/v1/lookahead`: corpora at run time, and how full things are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Path, Query, Request, State as FromState};
use http_body_util::BodyExt as _;
use lookahead_model::tokenizer::EncodeOptions;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Shared, Tenant, Url};
use crate::drafts::{CorpusInfo, NamespaceName, NamespaceReport, Upload};
use crate::error::{ApiError, BodyErrors, ErrorBody, NamespaceErrors};
use crate::served::Served;
use crate::state::{State, blocking};

/// Bytes of lines that are read before they are looked at together.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes of a line, at most. As JSON in memory it may take some thirty times that.
const MAX_LINE_BYTES: usize = 4 << 20;

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
    /// Why it is not drafted from, if it is not: its file is damaged, or made for another model. It can be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
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

/// What a namespace holds. It is not opened for this: one that no request has used since it was closed has no tokens.
#[derive(Serialize, ToSchema)]
struct NamespaceObject {
    name: String,
    /// Whether it is in memory: since a request used it, until its key's others need the room.
    is_open: bool,
    /// Tokens that can be drafted from.
    tokens: u64,
    /// Of those, the ones learned since it was opened.
    tokens_learned: u64,
    /// Memory.
    bytes: usize,
    /// Bytes of mapped copies of files.
    mapped_bytes: u64,
    /// Bytes of its own files, those of corpora not counted.
    disk_bytes: u64,
    /// Why its file cannot be used, if it is so: its requests draft from their own text alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<CorpusInfo> for CorpusObject {
    fn from(CorpusInfo { name, tokens, bytes, problem }: CorpusInfo) -> Self {
        Self { name, object: "corpus", tokens, bytes, problem }
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
        (status = 404, description = "The model is not served here", body = ErrorBody),
        (status = 429, description = "Another corpus of this key is being sent", body = ErrorBody),
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
    let namespace = NamespaceName::new("namespace", &tenant, namespace.as_deref())?;
    let model = Arc::clone(state.models.find(model.as_deref())?);
    let max_bytes = state.options.max_corpus_bytes;
    let upload = {
        let model = Arc::clone(&model);
        blocking(move || Ok(model.drafts.upload(namespace, name, max_bytes)?)).await?
    };
    // However slowly it comes: its place is wanted by the next one.
    let reader =
        Reader { state: &state, model, tenant, deadline: Instant::now() + state.options.request_timeout };
    let received = tokio::time::timeout_at(reader.deadline.into(), reader.read_texts(upload, request));
    let upload = received.await.unwrap_or_else(|_| Err(ApiError::client_timeout()))?;
    if upload.tokens() == 0 {
        return Err(ApiError::invalid("body", "the corpus has no text to learn"));
    }
    blocking(move || Ok(Json(upload.finish()?.into()))).await
}

/// Reads the lines of a corpus that is sent.
struct Reader<'a> {
    state: &'a State,
    model: Arc<Served>,
    tenant: Arc<str>,
    deadline: Instant,
}

impl Reader<'_> {
    /// Adds JSON lines as they come.
    async fn read_texts(&self, mut upload: Upload, request: Request) -> Result<Upload, ApiError> {
        let mut body = request.into_body();
        let (mut lines, mut read, mut bytes) = (Vec::new(), 0, 0);
        loop {
            let frame = tokio::time::timeout(self.state.options.client_timeout, body.frame()).await;
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
            upload.check_size(bytes)?;
            lines.extend_from_slice(&data);
            if lines.len() < BATCH_BYTES {
                continue;
            }
            if let Some(end) = lines.iter().rposition(|&byte| byte == b'\n') {
                let rest = lines.split_off(end + 1);
                (upload, read) = self.add_lines(upload, std::mem::replace(&mut lines, rest), read).await?;
            }
            if lines.len() > MAX_LINE_BYTES {
                return Err(line_too_long(read + 1));
            }
        }
        (upload, _) = self.add_lines(upload, lines, read).await?;
        Ok(upload)
    }

    /// Adds the texts of whole lines, before which there were `read`, where requests are prepared. The upload, and how many lines
    /// there have been.
    async fn add_lines(
        &self,
        mut upload: Upload,
        lines: Vec<u8>,
        mut read: usize,
    ) -> Result<(Upload, usize), ApiError> {
        let model = Arc::clone(&self.model);
        self.state
            .prepare(&self.tenant, self.deadline, move |awaited| {
                for line in lines.split(|&byte| byte == b'\n') {
                    awaited.check()?;
                    read += 1;
                    if line.len() > MAX_LINE_BYTES {
                        return Err(line_too_long(read));
                    }
                    let wrong =
                        |problem: String| ApiError::invalid("body", format!("line {read}: {problem}"));
                    let line = str::from_utf8(line).map_err(|error| wrong(error.to_string()))?;
                    for text in
                        lookahead_engine::learnable_texts(line).map_err(|error| wrong(error.to_string()))?
                    {
                        let tokens = model.tokenizer().encode(&text, EncodeOptions::default());
                        upload.add(&tokens.map_err(|error| wrong(error.to_string()))?)?;
                    }
                }
                // Behind the last line feed begins a line that is not there yet, or is empty at the end.
                Ok((upload, if lines.ends_with(b"\n") { read - 1 } else { read }))
            })
            .await
    }
}

fn line_too_long(number: usize) -> ApiError {
    ApiError::too_large(format!(
        "line {number} is longer than {MAX_LINE_BYTES} bytes; give its text in several lines"
    ))
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
    let namespace = NamespaceName::new("namespace", &tenant, namespace.as_deref())?;
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
    let namespace = NamespaceName::new("namespace", &tenant, namespace.as_deref())?;
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
    let name = NamespaceName::new("namespace", &tenant, namespace.as_deref())?;
    let model = Arc::clone(state.models.find(model.as_deref())?);
    blocking(move || {
        let NamespaceReport { is_open, stats, disk_bytes, problem } = model.drafts.report(&name);
        let load = model.worker.load();
        Ok(Json(Stats {
            running: load.running.load(Ordering::Relaxed),
            queued: load.waiting.load(Ordering::Relaxed),
            kv_cache: KvStats {
                used_tokens: load.kv_used_tokens.load(Ordering::Relaxed),
                total_tokens: model.kv_total_tokens,
            },
            namespace: NamespaceObject {
                name: name.to_string(),
                is_open,
                tokens: stats.tokens,
                tokens_learned: stats.tokens_learned,
                bytes: stats.bytes,
                mapped_bytes: stats.mapped_bytes,
                disk_bytes,
                problem,
            },
        }))
    })
    .await
}
