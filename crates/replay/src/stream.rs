//! Streams: recorded requests, one JSON object a line.
//!
//! A line has `prompt_ids` and `output_ids` (lists of token ids), and optionally `task` and `runners_up`. Other fields
//! are ignored, and so are blank lines.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use lookahead_model::TokenId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The task of a stream that names none.
pub const DEFAULT_TASK: &str = "default";

/// How many of the model's most likely tokens a recording holds for each token of the answer.
pub const RUNNERS_UP: usize = 8;

/// The longest line that is read: some millions of tokens, far more than any context holds.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A recorded request: what the model was asked and what it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// What kind of request it is: streams of a task resemble each other.
    pub task: String,
    /// Tokens of the prompt, at least one.
    pub prompt_ids: Vec<TokenId>,
    /// Tokens of the answer.
    pub output_ids: Vec<TokenId>,
    /// For each token of the answer the tokens that the model held likely in its place, best first; empty if they were
    /// not recorded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runners_up: Vec<Vec<TokenId>>,
}

/// Why streams cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file cannot be read.
    #[error("cannot read streams from {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot record to {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no stream.
    #[error("{path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// There is no stream in the file.
    #[error("there are no streams in {path}; `lookahead generate --record {path}` adds one")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is far longer than any stream.
    #[error("longer than {} MiB", MAX_LINE_BYTES >> 20)]
    TooLong,
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    NotAnObject(serde_json::Error),
    /// A field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field holds something else than it should.
    #[error("`{field}`: {error}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The prompt has no tokens.
    #[error("`prompt_ids` is empty")]
    EmptyPrompt,
    /// A number that no token has.
    #[error("`{0}`: {id} is no token id", id = TokenId::MAX)]
    NoToken(&'static str),
    /// Runners-up of another answer.
    #[error("`runners_up` has {runners_up} lists, but `output_ids` {output_ids} tokens")]
    LengthMismatch {
        /// Lists of runners-up.
        runners_up: usize,
        /// Tokens of the answer.
        output_ids: usize,
    },
}

impl Stream {
    /// Reads the streams of a file.
    ///
    /// # Errors
    /// If the file cannot be read, a line is no stream, or there is none.
    pub fn read_file(path: &Path) -> Result<Vec<Self>, StreamError> {
        let file = File::open(path).map_err(|source| StreamError::Read { path: path.to_owned(), source })?;
        let streams = Self::read(BufReader::new(file)).map_err(|(line, problem)| StreamError::Line {
            path: path.to_owned(),
            line,
            problem,
        })?;
        if streams.is_empty() {
            return Err(StreamError::Empty { path: path.to_owned() });
        }
        Ok(streams)
    }

    /// Reads streams; an error comes with the number of its line.
    fn read(mut reader: impl BufRead) -> Result<Vec<Self>, (usize, LineProblem)> {
        let (mut streams, mut line) = (Vec::new(), Vec::new());
        for number in 1.. {
            line.clear();
            // One byte more than may be there tells a line that is too long.
            let read = reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line);
            match read {
                Err(error) => return Err((number, error.into())),
                Ok(0) => break,
                Ok(bytes) if bytes as u64 > MAX_LINE_BYTES => return Err((number, LineProblem::TooLong)),
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => streams.push(Self::parse(&line).map_err(|problem| (number, problem))?),
            }
        }
        Ok(streams)
    }

    fn parse(line: &[u8]) -> Result<Self, LineProblem> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(LineProblem::NotAnObject)?;
        let stream = Self {
            task: field(&mut object, "task")?.unwrap_or_else(|| DEFAULT_TASK.to_owned()),
            prompt_ids: required(&mut object, "prompt_ids")?,
            output_ids: required(&mut object, "output_ids")?,
            runners_up: field(&mut object, "runners_up")?.unwrap_or_default(),
        };
        let Self { prompt_ids, output_ids, runners_up, .. } = &stream;
        if prompt_ids.is_empty() {
            return Err(LineProblem::EmptyPrompt);
        }
        if !runners_up.is_empty() && runners_up.len() != output_ids.len() {
            let (runners_up, output_ids) = (runners_up.len(), output_ids.len());
            return Err(LineProblem::LengthMismatch { runners_up, output_ids });
        }
        for (name, ids) in [("prompt_ids", prompt_ids), ("output_ids", output_ids)]
            .into_iter()
            .chain(runners_up.iter().map(|ids| ("runners_up", ids)))
        {
            if ids.contains(&TokenId::MAX) {
                return Err(LineProblem::NoToken(name));
            }
        }
        Ok(stream)
    }
}

fn required<T: DeserializeOwned>(
    object: &mut Map<String, Value>,
    name: &'static str,
) -> Result<T, LineProblem> {
    field(object, name)?.ok_or(LineProblem::Missing(name))
}

fn field<T: DeserializeOwned>(
    object: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>, LineProblem> {
    let value = object.get_mut(name).map_or(Value::Null, Value::take);
    serde_json::from_value(value).map_err(|error| LineProblem::Field { field: name, error })
}

/// Appends streams to a file.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: File,
}

impl Recorder {
    /// Opens `path` for appending; it is created if need be. A last line that was cut off stays a line of its own.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path) -> Result<Self, StreamError> {
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
            if file.metadata()?.len() > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().map_err(|source| StreamError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one stream, as one line in one write.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, stream: &Stream) -> Result<(), StreamError> {
        let line = serde_json::to_string(stream).map_err(io::Error::from);
        line.and_then(|line| self.file.write_all((line + "\n").as_bytes()))
            .map_err(|source| StreamError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Stream>, (usize, LineProblem)> {
        Stream::read(text.as_bytes())
    }

    #[test]
    fn task_and_runners_up_are_optional() {
        let text = "{\"prompt_ids\": [1, 2], \"output_ids\": [], \"other\": {}}\n\n\
                    {\"task\": \"t\", \"prompt_ids\": [1], \"output_ids\": [5], \"runners_up\": [[5, 6]]}";
        let streams = read(text).unwrap();
        assert_eq!(
            streams[0],
            Stream { task: "default".to_owned(), prompt_ids: vec![1, 2], ..Stream::default() }
        );
        assert_eq!((&*streams[1].task, &streams[1].runners_up), ("t", &vec![vec![5, 6]]));
    }

    #[test]
    fn an_error_names_line_and_field() {
        let good = "{\"prompt_ids\": [1], \"output_ids\": [2]}\n\n";
        for (line, problem) in [
            ("{\"prompt_ids\": ", "not a JSON object"),
            ("[1]", "not a JSON object"),
            ("\u{0}", "not a JSON object"),
            ("{\"output_ids\": [1]}", "`prompt_ids` is missing"),
            ("{\"prompt_ids\": [1]}", "`output_ids` is missing"),
            ("{\"prompt_ids\": [], \"output_ids\": [1]}", "`prompt_ids` is empty"),
            ("{\"prompt_ids\": [-1], \"output_ids\": [1]}", "`prompt_ids`: invalid value"),
            ("{\"prompt_ids\": [1.5], \"output_ids\": [1]}", "`prompt_ids`: invalid type"),
            ("{\"prompt_ids\": [1], \"output_ids\": [4294967296]}", "`output_ids`: invalid value"),
            ("{\"prompt_ids\": [1], \"output_ids\": [4294967295]}", "`output_ids`: 4294967295 is no token"),
            ("{\"prompt_ids\": [1], \"output_ids\": \"1\"}", "`output_ids`: invalid type"),
            ("{\"task\": 3, \"prompt_ids\": [1], \"output_ids\": []}", "`task`: invalid type"),
            (
                "{\"prompt_ids\": [1], \"output_ids\": [1, 2], \"runners_up\": [[1]]}",
                "`runners_up` has 1 lists, but `output_ids` 2",
            ),
            ("{\"prompt_ids\": [1], \"output_ids\": [1], \"runners_up\": [1]}", "`runners_up`: invalid type"),
        ] {
            let (number, error) = read(&format!("{good}{line}\n")).unwrap_err();
            assert_eq!(number, 3, "{line}");
            assert!(error.to_string().contains(problem), "{error}");
        }
        assert!(matches!(read(&"[".repeat(1 << 20)), Err((1, LineProblem::NotAnObject(_)))));
    }

    #[test]
    fn a_file_without_streams_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.jsonl");
        let error = |path: &Path| Stream::read_file(path).unwrap_err().to_string();
        assert!(error(&path).contains("s.jsonl"));
        std::fs::write(&path, "\n \n").unwrap();
        assert!(error(&path).contains("no streams in"));
        std::fs::write(&path, "\n{}\n").unwrap();
        assert!(error(&path).contains("s.jsonl, line 2: `prompt_ids`"));
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.jsonl");
        std::fs::write(&path, "{\"prompt_ids\"").unwrap();
        let stream = Stream { prompt_ids: vec![1], ..Stream::default() };
        Recorder::open(&path).unwrap().add(&stream).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(Stream::parse(text.lines().nth(1).unwrap().as_bytes()).unwrap(), stream);
        assert!(Recorder::open(directory.path()).unwrap_err().to_string().contains("cannot record to"));
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read(
            task in ".*",
            prompt_ids in prop::collection::vec(0..TokenId::MAX, 1..20),
            answer in prop::collection::vec((0..TokenId::MAX, prop::collection::vec(0..TokenId::MAX, 0..4)), 0..20),
        ) {
            let (output_ids, runners_up) = answer.into_iter().unzip();
            let stream = Stream { task, prompt_ids, output_ids, runners_up };
            let file = tempfile::NamedTempFile::new().unwrap();
            for _ in 0..2 {
                Recorder::open(file.path()).unwrap().add(&stream).unwrap();
            }
            prop_assert_eq!(Stream::read_file(file.path()).unwrap(), vec![stream.clone(), stream]);
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Stream::read(&bytes[..]);
        }
    }
}
