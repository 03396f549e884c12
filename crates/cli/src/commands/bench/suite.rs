//! Which prompts are measured, and which teach.

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lookahead_bench::{Case, Conversation, Prompt, SUITE, Task};
use lookahead_model::chat_template::Message;
use lookahead_model::{LanguageModel as _, PromptEncoder, TokenId};

use crate::answer::message;
use crate::loaded_model::{LoadedModel, encode_prompt, messages};
use crate::progress;
use crate::prompts::{PromptContent, PromptRecord, parse_prompts, read_prompts};

/// The prompts of a task.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TaskPrompts {
    name: String,
    /// Of the suite.
    prompts: Vec<PromptRecord>,
    /// For warm-up; `None` if the suite's own are to be split.
    warm_up: Option<Vec<PromptRecord>>,
}

/// Reads the prompts of `suite` (files and folders; the program's own if there are none) and of `warm_up`, by task.
///
/// # Errors
/// If a file cannot be read, a line is no prompt, or there are no prompts.
pub(super) fn read(suite: &[PathBuf], warm_up: &[PathBuf]) -> anyhow::Result<Vec<TaskPrompts>> {
    let mut tasks = Vec::new();
    for path in files(suite)? {
        for record in read_prompts(&path, None)? {
            task_of(&mut tasks, &path, &record).prompts.push(record);
        }
    }
    if suite.is_empty() {
        for (name, text) in SUITE {
            for record in parse_prompts(Path::new(name), text)? {
                task_of(&mut tasks, Path::new(name), &record).prompts.push(record);
            }
        }
    }
    ensure!(!tasks.is_empty(), "there are no prompts in the suite");
    for path in warm_up {
        for record in read_prompts(path, None)? {
            task_of(&mut tasks, path, &record).warm_up.get_or_insert_default().push(record);
        }
    }
    if !warm_up.is_empty() {
        for task in &mut tasks {
            task.warm_up.get_or_insert_default();
        }
    }
    Ok(tasks)
}

/// Files as they are; of folders all `.jsonl` files by name.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.with_context(|| format!("cannot read the folder {}", path.display()))?;
        let mut inside: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        inside.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        ensure!(!inside.is_empty(), "there is no .jsonl file in the folder {}", path.display());
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// The task that a prompt says, or else the name of its file.
fn task_of<'a>(tasks: &'a mut Vec<TaskPrompts>, path: &Path, record: &PromptRecord) -> &'a mut TaskPrompts {
    let stem = || path.file_stem().unwrap_or_default().display().to_string();
    let name = record.task.clone().unwrap_or_else(stem);
    let place = tasks.iter().position(|task| task.name == name).unwrap_or_else(|| {
        tasks.push(TaskPrompts { name, ..TaskPrompts::default() });
        tasks.len() - 1
    });
    &mut tasks[place]
}

/// Turns prompts into tokens: up to `limit` of a task to measure, as many to learn from. Those that leave the model's
/// context no room for an answer are left out, with a note.
///
/// # Errors
/// If the chat template refuses a prompt, a prompt is empty, or none is left to measure.
pub(super) fn encode(
    prompts: Vec<TaskPrompts>,
    loaded: &LoadedModel,
    limit: usize,
) -> anyhow::Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for TaskPrompts { name, prompts, warm_up } in prompts {
        let cases = |records: &[PromptRecord]| encode_task(&name, records, loaded);
        let task = match warm_up {
            None => Task::split(&*name, cases(&prompts)?, limit),
            Some(warm_up) => Task::of(&*name, cases(&prompts)?, cases(&warm_up)?, limit),
        };
        tasks.push(task);
    }
    ensure!(
        tasks.iter().any(|task| !task.measured.is_empty()),
        "no prompt of the suite fits into the model's context of {} tokens",
        loaded.model.context_length()
    );
    Ok(tasks)
}

fn encode_task(task: &str, records: &[PromptRecord], loaded: &LoadedModel) -> anyhow::Result<Vec<Case>> {
    let (mut cases, mut ids, mut too_long) = (Vec::new(), HashSet::new(), 0);
    for (number, record) in (1..).zip(records) {
        let mut id = record.id.clone().unwrap_or_else(|| format!("#{number}"));
        if ids.contains(&id) {
            id = format!("{id} #{number}");
        }
        ids.insert(id.clone());
        let prompt = loaded
            .encode_prompt(&record.content, None, record.raw)
            .with_context(|| format!("task {task}, prompt {id}"))?;
        ensure!(!prompt.is_empty(), "task {task}, prompt {id} is empty");
        if prompt.len() < loaded.model.context_length() {
            let turns = turns(record, &loaded.prompts);
            let later =
                (2..).zip(turns).map(|(turn, prompt)| Case { id: format!("{id}, turn {turn}"), prompt });
            let later: Vec<Case> = later.collect();
            cases.push(Case { id, prompt: Prompt::Known(prompt) });
            cases.extend(later);
        } else {
            too_long += 1;
        }
    }
    if too_long > 0 {
        progress::note(&format!(
            "{task}: {too_long} prompts are longer than the model's context and left out"
        ));
    }
    Ok(cases)
}

/// The turns of a conversation behind the first.
fn turns(record: &PromptRecord, prompts: &Arc<PromptEncoder>) -> Vec<Prompt> {
    let first = messages(&record.content, None);
    let said: Vec<Vec<Message>> = std::iter::once(first).chain(record.later.iter().cloned()).collect();
    let asked = record.later.iter().enumerate().map(|(index, turn)| {
        let said = said[..=index + 1].to_vec();
        let conversation = Turns { prompts: Arc::clone(prompts), said, raw: record.raw };
        let said = turn.iter().map(|message| &*message.content).collect::<Vec<_>>().join("\n");
        Prompt::Later { said, conversation: Arc::new(conversation) }
    });
    asked.collect()
}

/// The turns of a conversation, up to one that is to be answered.
struct Turns {
    prompts: Arc<PromptEncoder>,
    /// What is said in each.
    said: Vec<Vec<Message>>,
    raw: bool,
}

impl Conversation for Turns {
    fn prompt(&self, answers: &[Vec<TokenId>]) -> Result<Vec<TokenId>, Box<dyn Error + Send + Sync>> {
        let (mut messages, mut prompt) = (Vec::new(), Vec::new());
        for (turn, said) in self.said.iter().enumerate() {
            messages.extend_from_slice(said);
            let content = PromptContent::Messages(messages.clone());
            prompt = encode_prompt(&self.prompts, &content, None, self.raw)
                .map_err(|error| format!("{error:#}"))?;
            if let Some(answer) = answers.get(turn) {
                messages.push(message(&self.prompts, &prompt, answer));
            }
        }
        Ok(prompt)
    }
}

/// Tells suites apart.
pub(super) fn fingerprint(tasks: &[Task]) -> String {
    let mut hasher = blake3::Hasher::new();
    for task in tasks {
        for (kind, cases) in [(b'm', &task.measured), (b'w', &task.warm_up)] {
            for case in cases {
                let (known, said) = match &case.prompt {
                    Prompt::Known(tokens) => (Some(tokens), None),
                    Prompt::Later { said, .. } => (None, Some(said)),
                };
                let bytes = serde_json::to_vec(&(&task.name, kind, &case.id, known, said));
                hasher.update(&bytes.unwrap_or_default());
            }
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_belongs_to_the_task_that_it_names_or_to_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        write("b.jsonl", "{\"prompt\": \"1\"}\n{\"prompt\": \"2\", \"task\": \"x\"}\n");
        write("a.jsonl", "{\"prompt\": \"3\", \"task\": \"x\"}\n");
        write("notes.txt", "no prompt");
        let warm_up = write("w.json", "{\"prompt\": \"4\", \"task\": \"x\"}\n");
        let count = |tasks: &[TaskPrompts]| -> Vec<_> {
            let of = |task: &TaskPrompts| {
                (task.name.clone(), task.prompts.len(), task.warm_up.as_ref().map(Vec::len))
            };
            tasks.iter().map(of).collect()
        };
        let folder = [directory.path().to_owned()];
        assert_eq!(count(&read(&folder, &[]).unwrap()), [("x".into(), 2, None), ("b".into(), 1, None)]);
        assert_eq!(
            count(&read(&folder, &[warm_up]).unwrap()),
            [("x".into(), 2, Some(1)), ("b".into(), 1, Some(0))]
        );
    }

    #[test]
    fn the_programs_own_suite_has_twelve_tasks() {
        let tasks = read(&[], &[]).unwrap();
        assert_eq!(tasks.len(), 12);
        assert!(tasks.iter().all(|task| task.prompts.len() >= 8));
    }

    #[test]
    fn folders_and_files_that_give_nothing_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = read(&[directory.path().to_owned()], &[]).unwrap_err().to_string();
        assert!(error.contains("no .jsonl file in the folder"), "{error}");
        let error = read(&["no/such.jsonl".into()], &[]).unwrap_err().to_string();
        assert!(error.contains("no/such.jsonl"), "{error}");
    }
}
