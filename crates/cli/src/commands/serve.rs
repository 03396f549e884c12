//! `lookahead serve`: an OpenAI-compatible server.

mod config;
mod traces;

use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use lookahead_engine::{DraftPolicy, Engine, EngineOptions, spellings};
use lookahead_model::LanguageModel as _;
use lookahead_server::{ApiKey, DraftOptions, Listener, ServedModel, ServerOptions};
use lookahead_trie::{Corpus, CorpusBuilder};
use tokio::sync::Notify;

pub(crate) use self::config::read as read_config;
use self::traces::Traces;
use crate::arguments::{Decoding, LoadArgs, PolicyArgs, ReasoningArgs};
use crate::interrupt::{self, After};
use crate::loaded_model::LoadedModel;
use crate::warm_up::learn_file;
use crate::{calibration, memory, progress};

/// What a second signal leaves to save what was learned.
const LAST_SAVE: Duration = Duration::from_secs(2);
/// Threads for what reads and writes files: corpora, snapshots.
const FILE_THREADS: usize = 64;
/// Where the machine does not say how much memory it has: what most have.
const UNKNOWN_MEMORY: u64 = 8 << 30;

const HELP: &str = "\
Examples:
  lookahead serve
      The default model on http://127.0.0.1:8080: a chat page at /, the API at /v1, its description at /docs
  lookahead serve --model qwen2.5-coder-0.5b --port 9000 --model-name coder --model-name gpt-4o-mini
      Another model, also under the names that clients ask for
  lookahead serve --host 0.0.0.0 --api-key-file keys --drafts-dir /var/lib/lookahead
      For others: with keys, each with drafts of its own, and keep what is learned
  lookahead serve --config serve.toml
      The same from a file: `port = 9000`, `model-name = [\"coder\", \"gpt-4o-mini\"]`

  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}'

Every flag can also be set by the environment (--max-queue by LOOKAHEAD_SERVE_MAX_QUEUE; several values separated by
commas) and by the file of --config (max-queue = 100). A flag wins over the environment, the environment over the file,
the file over the default.

Answers are those of plain decoding, one request at a time, bit for bit, whatever else is being served. Ctrl-C or SIGTERM
finishes the answers that have begun, within --shutdown-timeout, saves what was learned, and ends; a second one does not wait
for answers, and a third one for nothing.";

/// Serve a model over HTTP, as OpenAI does
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ServeArgs {
    /// Read flags from this file
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) lookahead: ServedDraftArgs,
    #[command(flatten)]
    pub(crate) reasoning: ReasoningArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Where and for whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Listen on this address; 0.0.0.0 for all of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// Listen on this port; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,

    /// Serve only who sends this key, or another one that is given; NAME:KEY names it. What a key's requests teach serves
    /// its own requests only. May be given several times; see --api-key-file, as others can read command lines
    #[arg(long, value_name = "[NAME:]KEY", value_delimiter = ',', hide_env_values = true)]
    pub(crate) api_key: Vec<String>,

    /// Read keys from this file, one a line; blank lines and those that begin with # are ignored
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// Let web pages of this origin use the server, such as `https://example.org`, or * for all; may be given several times
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) cors_origin: Vec<String>,

    /// Answer to this name too, such as `llm.local`, where there are no keys; `*` for any; may be given several times. Without
    /// keys, requests must be for localhost or the address that is listened at: a web page may give this machine a name of
    /// its own
    #[arg(long, value_name = "NAME[:PORT]", value_delimiter = ',')]
    pub(crate) allowed_hosts: Vec<String>,

    /// What requests call the model; may be given several times [default: the file's name]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) model_name: Vec<String>,

    /// Refuse requests with fields that would be passed over, as clients of other servers send them by habit: the header
    /// `x-lookahead-ignored` of an answer names those that were
    #[arg(long)]
    pub(crate) strict_fields: bool,
}

/// How much.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Answer so many requests at once; they share each forward pass
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) parallel: usize,

    /// Let so many answers wait; requests for more get status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_queue: usize,

    /// Tokens of prompts and predictions that wait, all together; requests for more get status 429
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub(crate) max_queued_tokens: usize,

    /// Bytes of requests that are read or wait to be prepared, all together; others get status 429. A request that does not say
    /// its length counts as --max-body
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) max_body_memory: ByteSize,

    /// Of --max-queue and --parallel, --max-queued-tokens, --max-body-memory and --preparations, the percentage that one key may
    /// have; without keys, everyone together may have all
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = percentage)]
    pub(crate) tenant_share: usize,

    /// Prepare so many requests at a time (parse, tokenize, compile grammars, index); others wait [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) preparations: Option<usize>,

    /// Memory of KV caches together, such as 2GiB [default: a quarter of the machine's; on a GPU, what four contexts take, 2 GiB at most]
    #[arg(long, value_name = "SIZE")]
    pub(crate) kv_memory: Option<ByteSize>,

    /// Tokens of prompts in one forward pass: more is faster for prompts, and answers beside them wait longer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) prefill_chunk: usize,

    /// Tokens of a prompt, at most [default: what the context holds]
    #[arg(long, value_name = "N")]
    pub(crate) max_prompt_tokens: Option<usize>,

    /// Tokens of an answer, at most, whatever a request asks for [default: what the context holds]
    #[arg(long, value_name = "N")]
    pub(crate) max_completion_tokens: Option<usize>,

    /// Bytes of a request, at most
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub(crate) max_body: ByteSize,

    /// Bytes of a `prediction`, at most
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub(crate) max_prediction: ByteSize,

    /// Tokens of a `prediction`, at most [default: what the context holds]
    #[arg(long, value_name = "N")]
    pub(crate) max_prediction_tokens: Option<usize>,

    /// Bytes of a corpus that is sent, at most; and of its file and the memory that making it takes, index included
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) max_corpus: ByteSize,

    /// Seconds that a request may take in all
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) request_timeout: u64,

    /// Seconds that a client may keep us waiting: for its request, or for reading an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) client_timeout: u64,

    /// Seconds that answers that have begun may still take once we are told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) shutdown_timeout: u64,
}

/// How drafts are made and kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lookahead")]
pub(crate) struct ServedDraftArgs {
    /// How to decode where a request does not say; never changes an answer
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) decoding: Decoding,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// Learn drafts from texts or earlier answers first, for everyone: JSON lines, as for `generate`; may be given several
    /// times
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) warmup: Vec<PathBuf>,

    /// Draft from this file too, for everyone; made by `lookahead trie build`; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) corpus: Vec<PathBuf>,

    /// Keep what drafts are made from in this directory, a file for each key and namespace. It holds answers, of prompts a hash alone
    #[arg(long, value_name = "DIR")]
    pub(crate) drafts_dir: Option<PathBuf>,

    /// Seconds between snapshots of what was learned
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_interval: u64,

    /// Memory of the texts of one namespace
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) namespace_memory: ByteSize,

    /// Namespaces of a key that are open at once, at most. Others are closed, and saved if --drafts-dir keeps them
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) max_namespaces: usize,

    /// Namespaces of a key that --drafts-dir keeps, at most; those go that learned nothing for the longest time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub(crate) max_kept_namespaces: usize,

    /// Corpora that a key has sent, at most
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) max_corpora: usize,

    /// Bytes of the files of all corpora that a key has sent, at most
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) corpora_quota: ByteSize,
}

/// What is logged.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// Form of the log on stderr
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,

    /// Log what is asked. Prompts may be private; without this no text of a request is ever logged
    #[arg(long)]
    pub(crate) log_prompts: bool,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("must be a number of at least 1".to_owned()),
    }
}

fn percentage(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=100) => Ok(number),
        _ => Err("must be a number from 1 to 100".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(arguments: ServeArgs) -> anyhow::Result<ExitCode> {
    let ServeArgs { load, network, limits, lookahead, reasoning, log, .. } = arguments;
    // What is wrong with flags should not cost the time of loading a model.
    let keys = api_keys(&network)?;
    let _traces = Traces::start()?;
    let mut loaded = load.load()?;
    // A GPU's caches have a size of their own, unless one is chosen.
    let quarter = || loaded.model.gpu().is_none().then(|| memory::total().unwrap_or(UNKNOWN_MEMORY) / 4);
    let kv_memory = limits.kv_memory.map(|size| size.as_u64()).or_else(quarter);
    let drafts = draft_options(&lookahead, &mut loaded)?;
    let names = if network.model_name.is_empty() { vec![name_of(&loaded)] } else { network.model_name };
    let model = match kv_memory {
        None => loaded.model,
        Some(bytes) => {
            let model = loaded.model.with_kv_memory(usize::try_from(bytes).unwrap_or(usize::MAX));
            model.with_context(|| format!("--kv-memory {}", ByteSize(bytes)))?
        }
    };
    let kv_memory = model.cache_memory().total_bytes as u64;
    let engine = Engine::new(model, EngineOptions { prefill_chunk: limits.prefill_chunk });
    ensure!(
        engine.context_length() > 0,
        "--kv-memory {}: too little for even one sequence of this model, which takes {} at least",
        ByteSize(kv_memory),
        ByteSize(engine.least_cache_bytes() as u64)
    );
    let options = ServerOptions {
        keys,
        cors_origins: network.cors_origin,
        allowed_hosts: network.allowed_hosts,
        parallel: limits.parallel,
        max_queue: limits.max_queue,
        max_body_memory: bytes(limits.max_body_memory),
        max_queued_tokens: limits.max_queued_tokens,
        tenant_share: limits.tenant_share,
        preparations: limits.preparations.unwrap_or_else(cores),
        max_prediction_bytes: bytes(limits.max_prediction),
        max_prediction_tokens: limits.max_prediction_tokens.unwrap_or(usize::MAX),
        max_prompt_tokens: limits.max_prompt_tokens.unwrap_or(usize::MAX),
        max_completion_tokens: limits.max_completion_tokens.unwrap_or(usize::MAX),
        max_body_bytes: bytes(limits.max_body),
        max_corpus_bytes: bytes(limits.max_corpus),
        request_timeout: Duration::from_secs(limits.request_timeout),
        client_timeout: Duration::from_secs(limits.client_timeout),
        shutdown_timeout: Duration::from_secs(limits.shutdown_timeout),
        snapshot_interval: Duration::from_secs(lookahead.snapshot_interval),
        reasoning: reasoning.reasoning,
        strict_fields: network.strict_fields,
        log_prompts: log.log_prompts,
        drafts,
    };
    let model = ServedModel { names, prompts: loaded.prompts, drafts: None };

    let (stop, hurry) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let _stop = interrupt::on_interrupt(on_signal(Arc::clone(&stop), Arc::clone(&hurry)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // they hardly compute; the engine has threads of its own
        .max_blocking_threads(options.preparations + FILE_THREADS)
        .enable_all()
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(async {
        let listener = Listener::bind(&network.host, network.port).await?;
        let address = listener.address().context("the system does not say where we listen")?;
        progress::note(&format!(
            "Serving {} on http://{address}\n  chat page  http://{address}/\n  API        http://{address}/v1\n  \
             reference  http://{address}/docs",
            model.names.join(", "),
        ));
        let models = vec![(engine, model)];
        lookahead_server::serve(listener, models, options, stop.notified(), hurry.notified()).await?;
        anyhow::Ok(())
    })?;
    // What is left are requests that were given up: nobody waits for them.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// The first signal begins the end, the second one hurries it: then saving has [`LAST_SAVE`]. A third one ends the program.
fn on_signal(stop: Arc<Notify>, hurry: Arc<Notify>) -> impl Fn() -> After + Send + Sync {
    let signals = AtomicUsize::new(0);
    move || match signals.fetch_add(1, Ordering::Relaxed) {
        0 => {
            stop.notify_one();
            After::GoOn
        }
        1 => {
            hurry.notify_one();
            thread::spawn(|| {
                thread::sleep(LAST_SAVE);
                process::exit(interrupt::EXIT_CODE.into());
            });
            After::GoOn
        }
        _ => After::End,
    }
}

/// The keys of flags and of the file.
fn api_keys(network: &NetworkArgs) -> anyhow::Result<Vec<ApiKey>> {
    let mut lines = network.api_key.clone();
    if let Some(path) = &network.api_key_file {
        let name = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read --api-key-file {name}"))?;
        let keys = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.extend(keys.map(str::to_owned));
        ensure!(
            !lines.is_empty(),
            "--api-key-file {name}: there is no key in it, so everybody would be served"
        );
    }
    let keys = lines.iter().map(|line| ApiKey::parse(line)).collect::<Result<Vec<_>, _>>();
    keys.context("--api-key")
}

/// What the server drafts from.
fn draft_options(arguments: &ServedDraftArgs, loaded: &mut LoadedModel) -> anyhow::Result<DraftOptions> {
    let fingerprint = loaded.tokenizer().fingerprint();
    let mut corpora = Vec::new();
    for path in &arguments.corpus {
        corpora.push(Corpus::open(path, Some(fingerprint)).context("cannot use a corpus")?);
    }
    if !arguments.warmup.is_empty() {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut texts = CorpusBuilder::default();
        for path in &arguments.warmup {
            learn_file(loaded.tokenizer(), path, |tokens| {
                texts.add(tokens);
                Ok(())
            })?;
        }
        corpora.push(texts.write(&directory.path().join("warmup"), fingerprint)?);
    }
    if let Some(directory) = &arguments.drafts_dir {
        make_writable(directory)?;
    }
    let policy = match arguments.decoding {
        Decoding::Plain => None,
        Decoding::Lookahead if arguments.policy.is_fixed() => Some(arguments.policy.draft_policy(None)),
        Decoding::Lookahead => {
            Some(arguments.policy.draft_policy(calibration::cost_curve_of_batches(loaded)))
        }
    };
    let spelled = |policy| DraftPolicy { spellings: Some(spellings(loaded.tokenizer())), ..policy };
    Ok(DraftOptions {
        policy: policy.map(spelled),
        directory: arguments.drafts_dir.clone(),
        namespace_bytes: bytes(arguments.namespace_memory),
        max_namespaces: arguments.max_namespaces,
        max_kept_namespaces: arguments.max_kept_namespaces,
        max_corpora: arguments.max_corpora,
        corpora_bytes: arguments.corpora_quota.as_u64(),
        corpora,
    })
}

/// Makes sure, before anybody is served, that what is learned can be kept.
fn make_writable(directory: &Path) -> anyhow::Result<()> {
    let name = directory.display();
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make --drafts-dir {name}"))?;
    tempfile::tempfile_in(directory).with_context(|| format!("cannot write into --drafts-dir {name}"))?;
    Ok(())
}

/// What the model is called where nobody says: its file without `.gguf`.
fn name_of(loaded: &LoadedModel) -> String {
    let name = loaded.file_name();
    name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned)
}

/// What the machine runs at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
