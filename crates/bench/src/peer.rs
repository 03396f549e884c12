//! Another program to be measured against: llama.cpp's `llama-server`, on the same machine and the same model file.
//!
//! It runs as a child process on a loopback port, with one slot and nothing kept between requests, and is asked over HTTP in
//! token ids, so that both programs decode the very same prompt.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use lookahead_model::TokenId;

pub use self::answer::PeerAnswer;
use self::process::Process;

mod answer;
mod process;

/// What a peer is measured in: plain decoding, and each way in which llama-server drafts without a second model, as its
/// `--spec-type` calls it.
///
/// In two of them a server keeps something from one request for the next: `ngram-mod` learns the n-grams of all of them, and
/// `ngram-cache` adds to its n-grams only what is longer than the longest text so far. What is to be measured without that
/// needs a server of its own.
pub const PEER_MODES: [&str; 6] =
    ["plain", "ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"];

/// The mode in which the server is not told to draft.
const PLAIN: &str = "plain";

/// How long a server may take to load a model.
const START_LIMIT: Duration = Duration::from_mins(2);

/// How long an answer may take: far more than any should, but a benchmark must end.
const ANSWER_LIMIT: Duration = Duration::from_hours(1);

/// How long it may take to say a version: the libraries of a large build are loaded for it too.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

/// The longest answer that is read. Versions that do not know `response_fields` send the prompt back too.
const MAX_BODY_BYTES: u64 = 16 << 20;

/// Settings that not every version knows, given in the environment, where those that do not know them pass them over.
const SETTINGS: [(&str, &str); 9] = [
    ("LLAMA_ARG_DEVICE", "none"),        // the CPU alone, as ours
    ("LLAMA_ARG_CACHE_PROMPT", "0"),     // each prompt is computed
    ("LLAMA_ARG_CACHE_RAM", "0"),        // gigabytes of prompts that would never be used
    ("LLAMA_ARG_CACHE_IDLE_SLOTS", "0"), // as above
    ("LLAMA_ARG_CTX_CHECKPOINTS", "0"),  // as above
    ("LLAMA_ARG_UI", "0"),               // no pages for people
    ("LLAMA_ARG_WEBUI", "0"),            // the same, before it was renamed
    ("LLAMA_ARG_OFFLINE", "1"),          // the model is on the disk
    ("LLAMA_ARG_LOG_VERBOSITY", "2"),    // warnings and errors: no lines for each request
];

/// A llama-server that has loaded a model. It ends with the value.
///
/// The value must be dropped for that, which `std::process::exit` does not do; and `binary` must be the program itself, not a
/// script that starts it as another process. The child stays in the terminal's process group: Ctrl-C ends it too, and a prompt
/// that it was busy with then fails.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    agent: ureq::Agent,
    port: u16,
    server: String,
}

/// A peer could not be measured. `server` is the program and its mode.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No such mode.
    #[error("`{mode}` is no mode of llama-server that is measured: {}", PEER_MODES.join(", "))]
    Mode {
        /// What was asked for.
        mode: String,
    },
    /// The program cannot be run.
    #[error(
        "{binary}: cannot be started: {source}; give the path of a `llama-server` that is built for this machine"
    )]
    Start {
        /// The program.
        binary: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program is not llama.cpp's, or cannot tell.
    #[error(
        "{binary}: `--version` does not say which llama.cpp it is; is it a `llama-server`? It said:\n{said}"
    )]
    Version {
        /// The program.
        binary: PathBuf,
        /// What it said instead.
        said: String,
    },
    /// The server ended before it served.
    #[error(
        "{server}: ended before it served, with {status}. If it does not know an argument, build a newer llama.cpp or leave \
         the mode out. The end of what it said:\n{said}"
    )]
    EndedEarly {
        /// The program and its mode.
        server: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The server did not get ready.
    #[error(
        "{server}: not ready after {} s. Is the disk slow, or the memory full? The end of what it said:\n{said}",
        limit.as_secs()
    )]
    NotReady {
        /// The program and its mode.
        server: String,
        /// How long it was waited for.
        limit: Duration,
        /// The end of what it said.
        said: String,
    },
    /// The server ended while it answered.
    #[error(
        "{server}: ended while it answered, with {status}: a bug in it; leave the mode out or try another version. The end of \
         what it said:\n{said}"
    )]
    Crashed {
        /// The program and its mode.
        server: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The server runs and cannot be asked.
    #[error(
        "{server}: no answer: {reason}; leave the mode out or try again. The end of what it said:\n{said}"
    )]
    Request {
        /// The program and its mode.
        server: String,
        /// Why not.
        reason: String,
        /// The end of what it said.
        said: String,
    },
    /// The server does not want to answer.
    #[error(
        "{server}: refused the prompt (HTTP status {status}); does it fit the context? It answered:\n{body}"
    )]
    Refused {
        /// The program and its mode.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The start of what it answered.
        body: String,
    },
    /// The answer is not of the form that is read.
    #[error(
        "{server}: its answer cannot be read: {reason}; leave it out or try another version of llama.cpp"
    )]
    Answer {
        /// The program and its mode.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Peer {
    /// Which llama.cpp `binary` is, such as `llama.cpp build 6000 (0123abc)`.
    ///
    /// # Errors
    ///
    /// If it cannot be run or is something else.
    pub fn version(binary: &Path) -> Result<String, PeerError> {
        let start = |source| PeerError::Start { binary: binary.to_owned(), source };
        let mut process = Process::spawn(command(binary).arg("--version")).map_err(start)?;
        process.ended_within(VERSION_LIMIT).map_err(start)?;
        let said = process.said();
        parse_version(&said).ok_or_else(|| PeerError::Version { binary: binary.to_owned(), said })
    }

    /// Starts `binary` with `model` in a mode of [`PEER_MODES`], and waits until it is ready. Its KV cache is of 16-bit floats
    /// and has room for `context_length` tokens.
    ///
    /// # Errors
    ///
    /// If there is no such mode, or the server cannot be run, ends, or is not ready in two minutes. It then no longer runs.
    pub fn start(
        binary: &Path,
        model: &Path,
        threads: usize,
        context_length: usize,
        mode: &str,
    ) -> Result<Self, PeerError> {
        let mut peer = Self::spawn(binary, model, threads, context_length, mode)?;
        peer.wait_until_ready(START_LIMIT)?;
        tracing::debug!(server = peer.server, port = peer.port, "ready");
        Ok(peer)
    }

    fn spawn(
        binary: &Path,
        model: &Path,
        threads: usize,
        context_length: usize,
        mode: &str,
    ) -> Result<Self, PeerError> {
        if !PEER_MODES.contains(&mode) {
            return Err(PeerError::Mode { mode: mode.to_owned() });
        }
        let start = |source| PeerError::Start { binary: binary.to_owned(), source };
        let port = free_port().map_err(start)?;
        let threads = threads.to_string();
        let mut command = command(binary);
        command.arg("-m").arg(model).args(["-t", &threads, "-tb", &threads]);
        command.args(["-c", &context_length.to_string(), "-np", "1"]);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        if mode != PLAIN {
            command.args(["--spec-type", mode]);
        }
        let process = Process::spawn(&mut command).map_err(start)?;
        let server = format!("{} in mode `{mode}`", binary.display());
        Ok(Self { process, agent: agent(), port, server })
    }

    /// Decodes up to `max_tokens` (one or more) new tokens after `prompt`, always the most probable one, and stops after an end
    /// token.
    ///
    /// # Errors
    ///
    /// If the server ended, refuses the prompt, or answers what cannot be right.
    pub fn complete(&mut self, prompt: &[TokenId], max_tokens: usize) -> Result<PeerAnswer, PeerError> {
        let request = serde_json::json!({
            "prompt": prompt,
            "n_predict": max_tokens,
            "temperature": 0,
            "top_k": 1,
            // A model file may bring samplers of its own, such as penalties of repetition.
            "samplers": ["top_k"],
            "mirostat": 0,
            "cache_prompt": false,
            "stream": false,
            "return_tokens": true,
            "response_fields": ["tokens", "timings"],
        });
        let server = self.server.clone();
        match self.ask("/completion", Some(&request.to_string()), ANSWER_LIMIT) {
            Ok((200, body)) => PeerAnswer::parse(&body, prompt.len(), max_tokens)
                .map_err(|reason| PeerError::Answer { server, reason }),
            Ok((status, body)) => Err(PeerError::Refused { server, status, body: excerpt(&body) }),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn wait_until_ready(&mut self, limit: Duration) -> Result<(), PeerError> {
        let deadline = Instant::now() + limit;
        loop {
            // Asked first: a server that answers is not ours if ours has ended, as it does if the port was taken.
            let health = self.ask("/health", None, Duration::from_secs(5));
            let status = self.process.ended_within(Duration::ZERO).unwrap_or_default();
            let (server, said) = (self.server.clone(), self.process.said());
            if let Some(status) = status {
                return Err(PeerError::EndedEarly { server, status: status.to_string(), said });
            }
            if matches!(health, Ok((200, _))) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PeerError::NotReady { server, limit, said });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The HTTP status and the body of what the server answers to a GET, or a POST of `body`.
    fn ask(&self, path: &str, body: Option<&str>, limit: Duration) -> Result<(u16, Vec<u8>), ureq::Error> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut response = match body {
            None => self.agent.get(url).config().timeout_global(Some(limit)).build().call(),
            Some(body) => {
                let post = self.agent.post(url).content_type("application/json");
                post.config().timeout_global(Some(limit)).build().send(body)
            }
        }?;
        let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec()?;
        Ok((response.status().as_u16(), body))
    }

    /// What it means that a request failed with `error`.
    fn explain(&mut self, error: &ureq::Error) -> PeerError {
        // A server that dies closes the connection a little before it is gone.
        let status = self.process.ended_within(Duration::from_secs(1)).unwrap_or_default();
        let (server, said) = (self.server.clone(), self.process.said());
        match status {
            Some(status) => PeerError::Crashed { server, status: status.to_string(), said },
            None => PeerError::Request { server, reason: error.to_string(), said },
        }
    }
}

/// `binary` with [`SETTINGS`] and none of the settings that the user's environment holds.
fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    let is_setting = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("LLAMA_");
    for (name, _) in env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command.envs(SETTINGS);
    command
}

/// A port that nobody listens on. It is free again when this returns, for the server to take.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A client that goes to the server directly, whatever proxy is set for the internet, with a connection for each request: one
/// that is kept may be closed by the server at the moment at which it is used again.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_idle_connections(0)
        .http_status_as_error(false)
        .build()
        .new_agent()
}

/// `version: 6000 (0123abc)`, or `version: 0.5.0 (build 1, commit 0123abc)` in newer versions, as the name of a program.
fn parse_version(said: &str) -> Option<String> {
    let version = said.lines().find_map(|line| line.trim().strip_prefix("version: "))?;
    let (number, detail) = version.strip_suffix(')')?.split_once(" (")?;
    Some(match detail.strip_prefix("build ").and_then(|detail| detail.split_once(", commit ")) {
        Some((build, commit)) => format!("llama.cpp {number} build {build} ({commit})"),
        None => format!("llama.cpp build {number} ({detail})"),
    })
}

/// The start of `body`, without anything that would command a terminal.
fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(400).collect()
}

#[cfg(test)]
mod tests;
