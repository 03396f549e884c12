//! The runs of a benchmark as they come, in a file: what was measured is never measured twice, and nothing is lost if the
//! program ends.
//!
//! JSON lines: what is measured, then an entry for each run. A line that was cut off is dropped; a file about something
//! else is refused.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use lookahead_engine::CostCurve;
use serde::{Deserialize, Serialize};

use crate::results::Subject;
use crate::run::{Lesson, Run, RunKey};

/// What a journal is about: all that its runs depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What a second call must agree with.
    #[serde(flatten)]
    pub identity: Identity,
    /// The cost curve that adaptive drafts follow, measured when the journal began.
    pub curve: CostCurve,
}

/// What tells one benchmark from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Model, machine and settings.
    pub subject: Subject,
    /// A fingerprint of the prompts, in their order.
    pub suite: String,
}

/// Why runs cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is about something else.
    #[error(
        "{path} holds another benchmark: {difference} differ\nName another folder with --out, or delete the file to \
         begin anew", path = .path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// It is no journal.
    #[error("{path}, line {line}: not a run of a benchmark ({reason})", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// How a journal begins.
const BEGINNING: &str = "{\"header\":";

/// What is wrong with a file that begins otherwise.
const NO_BEGINNING: &str = "no beginning";

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Header(Header),
    Lesson(Lesson),
    Run(Run),
}

/// The runs of a benchmark, in memory and in a file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    lessons: Vec<Lesson>,
    runs: Vec<Run>,
    places: HashMap<RunKey, usize>,
}

impl Journal {
    /// The journal of the benchmark `identity` at `path`: the one that is there, with the runs that it has, or a new one
    /// with a cost curve from `measure`.
    ///
    /// # Errors
    /// If the file cannot be read or written, is no journal, or is about something else, or the curve cannot be measured.
    pub fn open<E: From<JournalError>>(
        path: &Path,
        identity: Identity,
        measure: impl FnOnce() -> Result<CostCurve, E>,
    ) -> Result<Self, E> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let damaged = |line, reason| JournalError::Damaged { path: path.to_owned(), line, reason };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(io)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        // A line without an end was cut off.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole == 0 && !BEGINNING.starts_with(&text) && !text.starts_with(BEGINNING) {
            return Err(damaged(1, NO_BEGINNING.to_owned()).into());
        }
        let mut lines = text[..whole].lines();
        let header = match lines.next().map(serde_json::from_str) {
            None => Header { identity, curve: measure()? },
            Some(Ok(Line::Header(header))) => match difference(&header.identity, &identity) {
                None => header,
                Some(difference) => {
                    return Err(JournalError::Other { path: path.to_owned(), difference }.into());
                }
            },
            Some(Ok(_)) => return Err(damaged(1, NO_BEGINNING.to_owned()).into()),
            Some(Err(error)) => return Err(damaged(1, error.to_string()).into()),
        };
        let mut journal = Self {
            path: path.to_owned(),
            file,
            header,
            lessons: Vec::new(),
            runs: Vec::new(),
            places: HashMap::new(),
        };
        for (line, number) in lines.zip(2..) {
            journal.read(line).map_err(|reason| damaged(number, reason))?;
        }
        journal.file.set_len(whole as u64).map_err(io)?;
        journal.file.seek(SeekFrom::End(0)).map_err(io)?;
        if whole == 0 {
            journal.write(&Line::Header(journal.header.clone()))?;
        }
        Ok(journal)
    }

    /// Takes a line behind the first one, or says what is wrong with it.
    fn read(&mut self, line: &str) -> Result<(), String> {
        match serde_json::from_str(line).map_err(|error| error.to_string())? {
            Line::Header(_) => return Err("a second beginning".to_owned()),
            Line::Lesson(lesson) => self.lessons.push(lesson),
            Line::Run(run) => self.insert(run),
        }
        Ok(())
    }

    /// What it is about.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The answers that teach.
    pub fn lessons(&self) -> &[Lesson] {
        &self.lessons
    }

    /// All runs, in the order in which they were measured.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The run of a key.
    pub fn run(&self, key: &RunKey) -> Option<&Run> {
        self.places.get(key).map(|&place| &self.runs[place])
    }

    /// The answer to a prompt that teaches.
    pub fn lesson(&self, task: &str, prompt: &str) -> Option<&Lesson> {
        self.lessons.iter().find(|lesson| lesson.task == task && lesson.prompt == prompt)
    }

    /// Keeps a run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, run: Run) -> Result<(), JournalError> {
        let line = Line::Run(run);
        self.write(&line)?;
        if let Line::Run(run) = line {
            self.insert(run);
        }
        Ok(())
    }

    /// Keeps an answer that teaches.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add_lesson(&mut self, lesson: Lesson) -> Result<(), JournalError> {
        self.write(&Line::Lesson(lesson.clone()))?;
        self.lessons.push(lesson);
        Ok(())
    }

    fn insert(&mut self, run: Run) {
        let place = *self.places.entry(run.key.clone()).or_insert(self.runs.len());
        if place == self.runs.len() {
            self.runs.push(run);
        }
    }

    fn write(&mut self, line: &Line) -> Result<(), JournalError> {
        let written = serde_json::to_string(line)
            .map_err(io::Error::from)
            .and_then(|text| self.file.write_all(format!("{text}\n").as_bytes()));
        written.map_err(|source| JournalError::Io { path: self.path.clone(), source })
    }
}

/// What two benchmarks differ in.
fn difference(old: &Identity, new: &Identity) -> Option<String> {
    let (a, b) = (&old.subject, &new.subject);
    let settings = [
        ("the programs' versions", a.program != b.program),
        ("the models", (&a.model, a.model_bytes) != (&b.model, b.model_bytes)),
        ("the machines", (&a.cpu, &a.instruction_set) != (&b.cpu, &b.instruction_set)),
        ("--threads", a.threads != b.threads),
        ("--kv-type", a.kv_type != b.kv_type),
        ("--max-tokens", a.max_tokens != b.max_tokens),
        ("--repeats", a.repeats != b.repeats),
        ("the programs compared with", a.peer != b.peer),
        ("the prompts", old.suite != new.suite),
    ];
    let names: Vec<_> = settings.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lookahead_engine::CostPoint;

    use super::*;
    use crate::run::Setting;

    fn curve() -> CostCurve {
        CostCurve::new(vec![CostPoint { tokens: 1, ms: 2.0 }]).unwrap()
    }

    fn open(path: &Path, identity: Identity) -> Result<Journal, JournalError> {
        Journal::open(path, identity, || Ok(curve()))
    }

    fn identity() -> Identity {
        let subject = Subject {
            program: "1".into(),
            model: "m".into(),
            model_bytes: 7,
            cpu: "c".into(),
            gpu: None,
            instruction_set: "i".into(),
            threads: 2,
            kv_type: "f16".into(),
            max_tokens: 8,
            repeats: 1,
            peer: None,
        };
        Identity { subject, suite: "s".into() }
    }

    fn run(prompt: &str, decode_ms: f64) -> Run {
        let key = RunKey { task: "t".into(), prompt: prompt.into(), repeat: 0, setting: Setting::Plain };
        Run {
            key,
            token_ids: vec![1, 2],
            decode_tokens: 1,
            decode_ms,
            ttft_ms: 1.0,
            retrieval_ms: 0.0,
            draft_lengths: vec![1],
            accepted_lengths: vec![1],
        }
    }

    #[test]
    fn what_was_kept_is_there_again_and_half_a_line_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs.jsonl");
        let mut journal = open(&path, identity()).unwrap();
        journal.add(run("a", 1.5)).unwrap();
        journal.add_lesson(Lesson { task: "t".into(), prompt: "w".into(), token_ids: vec![3] }).unwrap();
        journal.add(run("b", 2.5)).unwrap();
        drop(journal);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();

        let unneeded = || -> Result<CostCurve, JournalError> { panic!("the first curve stays") };
        let mut journal = Journal::open(&path, identity(), unneeded).unwrap();
        assert_eq!(journal.header(), &Header { identity: identity(), curve: curve() });
        assert_eq!(journal.runs(), [run("a", 1.5)]);
        assert_eq!(journal.lesson("t", "w").unwrap().token_ids, [3]);
        assert!(journal.lesson("u", "w").is_none() && journal.run(&run("b", 0.0).key).is_none());
        journal.add(run("b", 3.5)).unwrap();
        drop(journal);
        let journal = open(&path, identity()).unwrap();
        assert_eq!(journal.run(&run("b", 0.0).key).unwrap().decode_ms, 3.5);
    }

    #[test]
    fn another_benchmark_is_refused_with_what_differs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs.jsonl");
        fs::write(&path, "{\"hea").unwrap();
        open(&path, identity()).expect("a beginning that was cut off");
        let mut other = identity();
        other.subject.threads = 1;
        other.suite = "other".into();
        let error = open(&path, other).unwrap_err().to_string();
        assert!(error.contains("--threads, the prompts differ") && error.contains("--out"), "{error}");
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs.jsonl");
        let run_first = format!("{}\n", serde_json::to_string(&Line::Run(run("a", 1.0))).unwrap());
        for content in ["hello", "hello\n", "{}\n", &run_first] {
            fs::write(&path, content).unwrap();
            let error = open(&path, identity()).unwrap_err().to_string();
            assert!(error.contains("line 1: not a run"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
