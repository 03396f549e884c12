//! The prompts of a benchmark, as tokens, by task.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use lookahead_model::TokenId;

/// The prompts that come with the program, written for it: the name of each task, and its prompts as JSON lines.
pub const SUITE: [(&str, &str); 12] = [
    ("chat", include_str!("../suite/chat.jsonl")),
    ("rag", include_str!("../suite/rag.jsonl")),
    ("summary", include_str!("../suite/summary.jsonl")),
    ("code", include_str!("../suite/code.jsonl")),
    ("maths", include_str!("../suite/maths.jsonl")),
    ("translation", include_str!("../suite/translation.jsonl")),
    ("qa", include_str!("../suite/qa.jsonl")),
    ("edit", include_str!("../suite/edit.jsonl")),
    ("patch", include_str!("../suite/patch.jsonl")),
    ("agent", include_str!("../suite/agent.jsonl")),
    ("extraction", include_str!("../suite/extraction.jsonl")),
    ("proofreading", include_str!("../suite/proofreading.jsonl")),
];

/// What goes on with the model's own answers.
pub trait Conversation: Send + Sync {
    /// The prompt of the turn behind those with these answers; not empty.
    ///
    /// # Errors
    /// If there is none.
    fn prompt(&self, answers: &[Vec<TokenId>]) -> Result<Vec<TokenId>, Box<dyn Error + Send + Sync>>;
}

/// What a case asks.
#[derive(Clone)]
pub enum Prompt {
    /// These tokens; at least one.
    Known(Vec<TokenId>),
    /// The next turn of a conversation, of which the cases before it in its task are the turns before.
    Later {
        /// What is said in this turn.
        said: String,
        /// What makes it a prompt.
        conversation: Arc<dyn Conversation>,
    },
}

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, one of its own within the task.
    pub id: String,
    /// What it asks.
    pub prompt: Prompt,
}

impl fmt::Debug for Prompt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(tokens) => formatter.debug_tuple("Known").field(tokens).finish(),
            Self::Later { said, .. } => {
                formatter.debug_struct("Later").field("said", said).finish_non_exhaustive()
            }
        }
    }
}

impl PartialEq for Prompt {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a == b,
            (Self::Later { said: a, .. }, Self::Later { said: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl Eq for Prompt {}

/// The turns of a conversation as they come.
#[derive(Default)]
pub(crate) struct Turns {
    answers: Vec<Vec<TokenId>>,
    /// Whether a turn was left out.
    has_ended: bool,
}

impl Turns {
    /// The prompt of the next case of a task; `None` if it does not fit into a context of `context_length` tokens, or a turn
    /// before it did not.
    pub(crate) fn next(
        &mut self,
        case: &Case,
        context_length: usize,
    ) -> Result<Option<Vec<TokenId>>, Box<dyn Error + Send + Sync>> {
        let prompt = match &case.prompt {
            Prompt::Known(tokens) => {
                *self = Self::default();
                tokens.clone()
            }
            Prompt::Later { .. } if self.has_ended => return Ok(None),
            Prompt::Later { conversation, .. } => conversation.prompt(&self.answers)?,
        };
        self.has_ended = prompt.len() >= context_length;
        Ok((!self.has_ended).then_some(prompt))
    }

    /// The last case was answered so.
    pub(crate) fn answered(&mut self, answer: &[TokenId]) {
        self.answers.push(answer.to_vec());
    }
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
    /// Of `cases`, every second one teaches and the others are measured: up to `limit` of each, where a conversation counts as one.
    pub fn split(name: impl Into<String>, cases: Vec<Case>, limit: usize) -> Self {
        let mut task = Self { name: name.into(), ..Self::default() };
        for (index, case) in (conversations(cases)).into_iter().take(limit.saturating_mul(2)).enumerate() {
            if index % 2 == 0 { &mut task.measured } else { &mut task.warm_up }.extend(case);
        }
        task
    }

    /// Measures `measured` and teaches by `warm_up`, up to `limit` of each, where a conversation counts as one.
    pub fn of(name: impl Into<String>, measured: Vec<Case>, warm_up: Vec<Case>, limit: usize) -> Self {
        let first = |cases| conversations(cases).into_iter().take(limit).flatten().collect();
        Self { name: name.into(), measured: first(measured), warm_up: first(warm_up) }
    }
}

/// `cases` by conversation: each with the turns that follow it.
fn conversations(cases: Vec<Case>) -> Vec<Vec<Case>> {
    let mut conversations: Vec<Vec<Case>> = Vec::new();
    for case in cases {
        match (&case.prompt, conversations.last_mut()) {
            (Prompt::Later { .. }, Some(conversation)) => conversation.push(case),
            _ => conversations.push(vec![case]),
        }
    }
    conversations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_prompt_teaches() {
        let cases = |ids: &[&str]| -> Vec<Case> {
            ids.iter().map(|id| Case { id: (*id).to_owned(), prompt: Prompt::Known(vec![1]) }).collect()
        };
        let task = Task::split("t", cases(&["a", "b", "c", "d", "e"]), 2);
        assert_eq!((task.measured, task.warm_up), (cases(&["a", "c"]), cases(&["b", "d"])));
        let task = Task::split("t", cases(&["a", "b", "c"]), usize::MAX);
        assert_eq!((task.measured.len(), task.warm_up.len()), (2, 1));
    }

    struct Echo;

    impl Conversation for Echo {
        fn prompt(&self, answers: &[Vec<TokenId>]) -> Result<Vec<TokenId>, Box<dyn Error + Send + Sync>> {
            Ok(answers.concat())
        }
    }

    fn turn(id: &str) -> Case {
        Case { id: id.into(), prompt: Prompt::Later { said: id.into(), conversation: Arc::new(Echo) } }
    }

    fn first(id: &str) -> Case {
        Case { id: id.into(), prompt: Prompt::Known(vec![1]) }
    }

    #[test]
    fn the_turns_of_a_conversation_stay_together() {
        let cases = vec![first("a"), turn("a2"), turn("a3"), first("b"), first("c"), turn("c2")];
        let task = Task::split("t", cases.clone(), 1);
        let ids = |cases: &[Case]| cases.iter().map(|case| case.id.clone()).collect::<Vec<_>>();
        assert_eq!((ids(&task.measured), ids(&task.warm_up)), (ids(&cases[..3]), ids(&cases[3..4])));
        let task = Task::of("t", cases.clone(), Vec::new(), 2);
        assert_eq!(ids(&task.measured), ids(&cases[..4]));
    }

    #[test]
    fn a_turn_is_asked_with_the_answers_before_it_and_left_out_with_those_behind_it_if_it_is_too_long() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(&first("a"), 4).unwrap(), Some(vec![1]));
        turns.answered(&[5, 6]);
        assert_eq!(turns.next(&turn("a2"), 4).unwrap(), Some(vec![5, 6]));
        turns.answered(&[7, 8]);
        assert_eq!(turns.next(&turn("a3"), 4).unwrap(), None);
        assert_eq!(turns.next(&turn("a4"), 9).unwrap(), None);
        assert_eq!(turns.next(&first("b"), 4).unwrap(), Some(vec![1]));
        turns.answered(&[9]);
        assert_eq!(turns.next(&turn("b2"), 4).unwrap(), Some(vec![9]));
    }
}
