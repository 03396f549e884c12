//! The program on a tiny model, in a directory of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use lookahead_fixtures::{TinyModel, tiny_model};
use serde_json::Value;

/// A directory with a model and a cache.
pub(crate) struct Tiny {
    directory: tempfile::TempDir,
    model: PathBuf,
}

impl Tiny {
    pub(crate) fn new(architecture: &'static str) -> Self {
        Self::with(&TinyModel { architecture, ..TinyModel::default() })
    }

    pub(crate) fn with(model: &TinyModel) -> Self {
        Self::of_file(&tiny_model(model))
    }

    /// A model with a large context that goes on for some 600 tokens, seconds in a debug build, about "The model
    /// writes one token after the other."
    pub(crate) fn talkative() -> Self {
        Self::with(&TinyModel { context_length: 100_000, layers: 8, seed: 2, ..TinyModel::default() })
    }

    pub(crate) fn of_file(gguf: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let model = directory.path().join("tiny.gguf");
        fs::write(&model, gguf).unwrap();
        Self { directory, model }
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `lookahead COMMAND --model MODEL ARGUMENTS`, with a closed stdin.
    pub(crate) fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut line = Command::new(env!("CARGO_BIN_EXE_lookahead"));
        line.args([command, "--model"]).arg(&self.model).args(arguments);
        line.env("LOOKAHEAD_CACHE", self.path("cache")).env_remove("LOOKAHEAD_LOG").env_remove("NO_COLOR");
        line.current_dir(self.directory.path()).stdin(Stdio::null());
        line
    }

    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command, arguments).output().unwrap()
    }

    /// Runs with `input` on stdin.
    pub(crate) fn run_with(&self, command: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut child = self.start(command, arguments);
        child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts the program with pipes all around and does not wait for it.
    pub(crate) fn start(&self, command: &str, arguments: &[&str]) -> Child {
        let mut line = self.command(command, arguments);
        line.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The object of a `generate --json` that succeeds.
    pub(crate) fn generate(&self, arguments: &[&str]) -> Value {
        let output = self.run("generate", &[&["--json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The stderr of what must fail with exit code 1 and print nothing else.
    pub(crate) fn fails(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.run(command, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert!(error.contains("error: ") && !error.contains("panicked"), "{error}");
        error
    }

    /// Names in the directory that begin with a dot: what an unfinished save would leave.
    pub(crate) fn hidden_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with('.')).collect()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

/// Sends SIGINT, as Ctrl-C does.
#[cfg(unix)]
pub(crate) fn control_c(child: &Child) {
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
}
