//! The program as a user runs it, in a directory of its own with tiny models.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use lookahead_fixtures::{TinyModel, tiny_model};
use serde_json::Value;

/// A directory in which the program runs.
pub(crate) struct Directory(tempfile::TempDir);

/// What a run of the program printed, and its exit code.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A directory with the tiny model `model.gguf`.
    pub(crate) fn with_model(model: &TinyModel) -> Self {
        let directory = Self::new();
        directory.write("model.gguf", tiny_model(model));
        directory
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    /// Names of all files, hidden ones included, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs the program with the arguments in `line`.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.run_with_input(line, "")
    }

    /// Runs the program with the arguments in `line` and `input` on stdin.
    pub(crate) fn run_with_input(&self, line: &str, input: impl AsRef<[u8]>) -> Run {
        let mut child = self.start(line);
        // A program that ends without reading closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        Run::of(child)
    }

    /// Starts the program, with pipes all around.
    pub(crate) fn start(&self, line: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_lookahead"))
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env("LOOKAHEAD_CACHE", self.path().join("cache"))
            .env_remove("LOOKAHEAD_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Run {
    /// Waits for the end.
    pub(crate) fn of(child: Child) -> Self {
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The output of a run that must have succeeded.
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The same as JSON.
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.success()).unwrap()
    }

    /// What a run that must have failed with exit code 1 says about it.
    pub(crate) fn failure(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "{}", self.stderr);
        self.stderr
    }
}
