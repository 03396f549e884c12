//! The prompts to verify on: chosen from files, turned into tokens.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use lookahead_model::{DeviceModel, LanguageModel as _, TokenId};

use crate::loaded_model::LoadedModel;
use crate::prompts::{PromptRecord, read_prompts};
use crate::token_ids::{check_vocabulary, read_ids};

/// Tokens of the prompt that [`Case::shortened`] keeps, and that it decodes.
const SHORT_PROMPT: usize = 16;
const SHORT_ANSWER: usize = 4;

/// One prompt to decode again and again.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// What reports call it.
    pub(super) id: String,
    pub(super) prompt: Vec<TokenId>,
    pub(super) max_tokens: usize,
    /// Whether it is a part of a prompt that is a case of its own.
    pub(super) is_part: bool,
}

impl Case {
    /// A small part of it, for kernels that take a second for a few tokens.
    pub(super) fn shortened(&self) -> Self {
        let from = self.prompt.len().saturating_sub(SHORT_PROMPT);
        Self {
            id: format!("{}, shortened", self.id),
            prompt: self.prompt[from..].to_vec(),
            max_tokens: self.max_tokens.min(SHORT_ANSWER),
            is_part: true,
        }
    }
}

/// Reads the prompts of `files`: all of them, or `limit` taken evenly. Each comes with its name in reports.
pub(super) fn select(files: &[PathBuf], limit: Option<usize>) -> anyhow::Result<Vec<(String, PromptRecord)>> {
    let mut groups: Vec<Group> = Vec::new();
    for (file, path) in files.iter().enumerate() {
        for (number, record) in (1..).zip(read_prompts(path, None)?) {
            let name = record.id.clone().unwrap_or_else(|| format!("{} #{number}", file_name(path)));
            let same = groups.iter_mut().find(|group| group.file == file && group.task == record.task);
            if let Some(group) = same {
                group.prompts.push_back((name, record));
            } else {
                let task = record.task.clone();
                groups.push(Group { file, task, prompts: [(name, record)].into() });
            }
        }
    }
    let found = groups.iter().map(|group| group.prompts.len()).sum();
    ensure!(found > 0, "there are no prompts in {}", list(files));
    Ok(take_evenly(groups, limit.unwrap_or(found)))
}

/// The prompts of one task in one file.
struct Group {
    file: usize,
    task: Option<String>,
    prompts: VecDeque<(String, PromptRecord)>,
}

/// Takes the first of each group, then the second of each, and so on.
fn take_evenly(mut groups: Vec<Group>, limit: usize) -> Vec<(String, PromptRecord)> {
    let mut taken = Vec::new();
    while taken.len() < limit && !groups.is_empty() {
        let room = limit - taken.len();
        taken.extend(groups.iter_mut().filter_map(|group| group.prompts.pop_front()).take(room));
        groups.retain(|group| !group.prompts.is_empty());
    }
    taken
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Turns prompts into tokens. Each comes with its name in reports.
pub(super) fn encode(
    prompts: Vec<(String, PromptRecord)>,
    loaded: &LoadedModel,
) -> anyhow::Result<Vec<(String, Vec<TokenId>)>> {
    let encode = |(id, record): (String, PromptRecord)| {
        let prompt = loaded
            .encode_prompt(&record.content, None, record.raw)
            .with_context(|| format!("prompt {id}"))?;
        ensure!(!prompt.is_empty(), "prompt {id} is empty");
        Ok((id, prompt))
    };
    prompts.into_iter().map(encode).collect()
}

/// Reads files of token ids, at most `limit`: a prompt each.
pub(super) fn read_token_ids(
    files: &[PathBuf],
    limit: Option<usize>,
) -> anyhow::Result<Vec<(String, Vec<TokenId>)>> {
    let files = files.iter().take(limit.unwrap_or(files.len()));
    files.map(|path| Ok((path.display().to_string(), read_ids(path)?))).collect()
}

/// The cases of prompts that are tokens. Those that leave the model's context no room for an answer are left out; their
/// names are the second result.
pub(super) fn prepare(
    prompts: Vec<(String, Vec<TokenId>)>,
    model: &DeviceModel,
    max_tokens: usize,
) -> anyhow::Result<(Vec<Case>, Vec<String>)> {
    let context_length = model.context_length();
    let (mut cases, mut too_long) = (Vec::new(), Vec::new());
    for (id, prompt) in prompts {
        check_vocabulary(&prompt, model.vocabulary_size()).with_context(|| format!("prompt {id}"))?;
        if prompt.len() < context_length {
            cases.push(Case { id, prompt, max_tokens, is_part: false });
        } else {
            too_long.push(id);
        }
    }
    ensure!(!cases.is_empty(), "no prompt fits into the model's context of {context_length} tokens");
    Ok((cases, too_long))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::PromptContent;

    fn group(file: usize, names: &[&str]) -> Group {
        let record = || PromptRecord {
            id: None,
            task: None,
            content: PromptContent::Text(String::new()),
            later: Vec::new(),
            raw: true,
            reference: None,
        };
        let prompts = names.iter().map(|&name| (name.to_owned(), record())).collect();
        Group { file, task: None, prompts }
    }

    #[test]
    fn a_limit_takes_evenly_from_all_groups_and_fills_up_from_the_long_ones() {
        let take = |limit| {
            let groups =
                vec![group(0, &["a1", "a2", "a3", "a4"]), group(1, &["b1"]), group(2, &["c1", "c2"])];
            take_evenly(groups, limit).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(take(2), "a1 b1");
        assert_eq!(take(4), "a1 b1 c1 a2");
        assert_eq!(take(6), "a1 b1 c1 a2 c2 a3");
        assert_eq!(take(99), "a1 b1 c1 a2 c2 a3 a4");
    }

    #[test]
    fn a_shortened_case_keeps_the_end_of_the_prompt() {
        let case = Case { id: "x".to_owned(), prompt: (0..100).collect(), max_tokens: 64, is_part: false };
        let short = case.shortened();
        assert_eq!(short.prompt, (84..100).collect::<Vec<_>>());
        assert_eq!(short.max_tokens, 4);
    }
}
