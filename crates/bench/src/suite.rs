//! The prompts of a benchmark, as tokens, by task.

use lookahead_model::TokenId;

/// The prompts that come with the program, written for it: the name of each task, and its prompts as JSON lines.
pub const SUITE: [(&str, &str); 7] = [
    ("chat", include_str!("../suite/chat.jsonl")),
    ("rag", include_str!("../suite/rag.jsonl")),
    ("summary", include_str!("../suite/summary.jsonl")),
    ("code", include_str!("../suite/code.jsonl")),
    ("maths", include_str!("../suite/maths.jsonl")),
    ("translation", include_str!("../suite/translation.jsonl")),
    ("qa", include_str!("../suite/qa.jsonl")),
];

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, one of its own within the task.
    pub id: String,
    /// Its tokens; not empty.
    pub prompt: Vec<TokenId>,
}

/// The prompts of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its name, one of its own within the suite.
    pub name: String,
    /// What is measured.
    pub measured: Vec<Case>,
    /// Prompts whose answers teach.
    pub warm_up: Vec<Case>,
}

impl Task {
    /// Of `cases`, every second one teaches and the others are measured: up to `limit` of each.
    pub fn split(name: impl Into<String>, cases: Vec<Case>, limit: usize) -> Self {
        let mut task = Self { name: name.into(), ..Self::default() };
        for (index, case) in cases.into_iter().take(limit.saturating_mul(2)).enumerate() {
            if index % 2 == 0 { &mut task.measured } else { &mut task.warm_up }.push(case);
        }
        task
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_prompt_teaches() {
        let cases = |ids: &[&str]| -> Vec<Case> {
            ids.iter().map(|id| Case { id: (*id).to_owned(), prompt: vec![1] }).collect()
        };
        let task = Task::split("t", cases(&["a", "b", "c", "d", "e"]), 2);
        assert_eq!((task.measured, task.warm_up), (cases(&["a", "c"]), cases(&["b", "d"])));
        let task = Task::split("t", cases(&["a", "b", "c"]), usize::MAX);
        assert_eq!((task.measured.len(), task.warm_up.len()), (2, 1));
    }
}
