//! What a model thinks, says and calls, told apart as its answer arrives.

use crate::reasoning::{Parted, ReasoningParser};
use crate::tool_calls::{ToolCallParser, ToolDelta};

/// Tells apart what an answer consists of, which arrives in pieces: where they are cut makes no difference.
#[derive(Clone, Debug, Default)]
pub struct AnswerParser {
    thoughts: Option<ReasoningParser>,
    calls: Option<ToolCallParser>,
}

impl AnswerParser {
    /// A parser that finds thoughts and calls, where there may be any.
    pub fn new(thoughts: Option<ReasoningParser>, calls: Option<ToolCallParser>) -> Self {
        Self { thoughts, calls }
    }

    /// Whether the text so far ends inside thinking that marks of its own tell, not a channel.
    pub fn is_thinking(&self) -> bool {
        self.thoughts.as_ref().is_some_and(ReasoningParser::is_thinking)
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<ToolDelta> {
        match &mut self.thoughts {
            Some(parser) => {
                let parted = parser.push(text);
                self.sorted(parted)
            }
            None => self.said(text),
        }
    }

    /// What was still held back, once no more will come.
    pub fn finish(&mut self) -> Vec<ToolDelta> {
        let parted = self.thoughts.as_mut().map(ReasoningParser::finish);
        let mut deltas = self.sorted(parted.unwrap_or_default());
        deltas.extend(self.calls.iter_mut().flat_map(ToolCallParser::finish));
        deltas
    }

    fn sorted(&mut self, Parted { reasoning, content }: Parted) -> Vec<ToolDelta> {
        let mut deltas = Vec::new();
        if !reasoning.is_empty() {
            deltas.push(ToolDelta::Reasoning(reasoning));
        }
        deltas.extend(self.said(&content));
        deltas
    }

    fn said(&mut self, text: &str) -> Vec<ToolDelta> {
        match &mut self.calls {
            _ if text.is_empty() => Vec::new(),
            Some(parser) => parser.push(text),
            None => vec![ToolDelta::Content(text.to_owned())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReasoningFormat, ToolFormat, ToolSignatures};

    #[test]
    fn thoughts_text_and_calls_are_told_apart() {
        let none = || ToolSignatures::new([]);
        let thoughts = || ReasoningFormat::named("qwen3").map(|format| ReasoningParser::new(format, true));
        let hermes = || Some(ToolCallParser::new(ToolFormat::Hermes, none()));
        let harmony = || Some(ToolCallParser::new(ToolFormat::Harmony, none()));
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
        for (mut parser, text, expected) in [
            (AnswerParser::default(), "<think>a".to_owned(), "|<think>a|"),
            (AnswerParser::new(thoughts(), None), format!("a</think>b {call}"), &*format!("a|b {call}|")),
            (
                AnswerParser::new(thoughts(), hermes()),
                format!("a {call}</think>b{call}"),
                &format!("a {call}|b|f{{}}"),
            ),
            (
                AnswerParser::new(None, harmony()),
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"
                    .to_owned(),
                "a|b|",
            ),
        ] {
            let (mut reasoning, mut content, mut calls) = (String::new(), String::new(), String::new());
            let characters: Vec<String> = text.chars().map(String::from).collect();
            let mut deltas: Vec<ToolDelta> = characters.iter().flat_map(|piece| parser.push(piece)).collect();
            deltas.extend(parser.finish());
            for delta in deltas {
                match delta {
                    ToolDelta::Reasoning(text) => reasoning += &text,
                    ToolDelta::Content(text) => content += &text,
                    ToolDelta::Call { name: text } | ToolDelta::Arguments(text) => calls += &text,
                }
            }
            assert_eq!(format!("{reasoning}|{content}|{calls}"), expected, "{text}");
        }
    }
}
