//! What the server is told by whoever starts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lookahead_engine::DraftPolicy;
use lookahead_model::chat_template::ChatTemplate;
use lookahead_model::{PromptEncoder, ReasoningFormat};
use lookahead_trie::Corpus;

use crate::auth::ApiKey;

/// The model as clients see it.
pub struct ServedModel {
    /// Its name, and other names that requests may give it. At least one.
    pub names: Vec<String>,
    /// Text to tokens.
    pub prompts: Arc<PromptEncoder>,
    /// What its drafts are made from, where that differs from what [`ServerOptions::drafts`] says: a policy that was measured
    /// for it, corpora of its tokenizer. Models of different tokenizers keep their drafts in different directories.
    pub drafts: Option<DraftOptions>,
}

/// Whether what a model thinks is told from what it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReasoningMode {
    /// By the marks that the model's chat template has.
    #[default]
    Auto,
    /// All of it is the answer.
    Off,
    /// By these marks.
    Format(ReasoningFormat),
}

impl ReasoningMode {
    /// How a model marks what it thinks, if that is told from its answers.
    pub fn format(self, prompts: &PromptEncoder) -> Option<ReasoningFormat> {
        match self {
            Self::Auto => prompts.template().and_then(ChatTemplate::reasoning_format),
            Self::Off => None,
            Self::Format(format) => Some(format),
        }
    }
}

/// Limits and habits.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Keys of clients; without any, everyone is served, as one tenant.
    pub keys: Vec<ApiKey>,
    /// Origins of web pages that browsers may let use the server; `*` for all.
    pub cors_origins: Vec<String>,
    /// Names, besides this machine's own, by which clients may call a server without keys: `NAME` or `NAME:PORT`; `*` for all.
    pub allowed_hosts: Vec<String>,
    /// Sequences in one pass, at most.
    pub parallel: usize,
    /// Answers that wait, at most; more are refused.
    pub max_queue: usize,
    /// Bytes of the bodies that are being read or wait to be prepared, all together; beyond it requests are refused. A body
    /// of which the length is not known before it is read counts as `max_body_bytes`.
    pub max_body_memory: usize,
    /// Tokens of the prompts and predictions of waiting answers, all together; beyond it requests are refused.
    pub max_queued_tokens: usize,
    /// Of each of these limits and of `preparations`, the percentage that one tenant may have, where there are keys. Without
    /// keys there is one tenant, which may have all.
    pub tenant_share: usize,
    /// Requests that are prepared at a time: parsed, put through the template, tokenized, compiled, indexed. Each takes a
    /// core.
    pub preparations: usize,
    /// Tokens of a prompt, at most.
    pub max_prompt_tokens: usize,
    /// Tokens of an answer, at most.
    pub max_completion_tokens: usize,
    /// Bytes of a request, at most.
    pub max_body_bytes: usize,
    /// Bytes of a predicted output, at most.
    pub max_prediction_bytes: usize,
    /// Tokens of a predicted output, at most; never more than the context has.
    pub max_prediction_tokens: usize,
    /// Bytes of a corpus that is sent, at most; and, with its index, of its file and of the memory that it takes meanwhile.
    pub max_corpus_bytes: usize,
    /// How long a request may take from its arrival to its end.
    pub request_timeout: Duration,
    /// How long a client may keep the server waiting: for the head of a request, for its body, for reading an answer.
    pub client_timeout: Duration,
    /// How long requests may go on once the server is told to stop.
    pub shutdown_timeout: Duration,
    /// How often what was learned is saved.
    pub snapshot_interval: Duration,
    /// Whether what models think is told from what they answer.
    pub reasoning: ReasoningMode,
    /// Whether fields that this server would pass over are refused.
    pub strict_fields: bool,
    /// Whether prompts and answers are logged.
    pub log_prompts: bool,
    /// What drafts are made from.
    pub drafts: DraftOptions,
}

impl ServerOptions {
    /// Of each limit, the percentage that one tenant may have.
    pub(crate) fn tenant_percent(&self) -> usize {
        if self.keys.is_empty() { 100 } else { self.tenant_share.min(100) }
    }
}

/// What drafts are made from, and where it stays.
#[derive(Clone)]
pub struct DraftOptions {
    /// How requests draft that do not say; `None` for plain decoding.
    pub policy: Option<DraftPolicy>,
    /// Where namespaces are kept; without it they end with the server.
    pub directory: Option<PathBuf>,
    /// What the texts of a namespace may take in memory, in bytes.
    pub namespace_bytes: usize,
    /// Namespaces of a tenant that are open at once, at most.
    pub max_namespaces: usize,
    /// Namespaces of a tenant that are kept in the directory, at most; as many as may be open, at least.
    pub max_kept_namespaces: usize,
    /// Corpora that a tenant has sent, at most.
    pub max_corpora: usize,
    /// Bytes of the files of corpora that a tenant has sent, at most.
    pub corpora_bytes: u64,
    /// What every namespace drafts from besides.
    pub corpora: Vec<Corpus>,
}

impl std::fmt::Debug for DraftOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DraftOptions")
            .field("policy", &self.policy)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
