//! Prompt files: JSON lines, a prompt on each.
//!
//! A line is an object with `prompt` (text) or `messages` (as in OpenAI's chat API: `content` is a text, a list of parts,
//! or null or absent; `reasoning_content` or `reasoning` is what the assistant thought), and optionally `id`,
//! `task`, `mode` (`completion` for text that is continued as it stands, `chat` otherwise) and `reference` (an
//! answer that somebody wrote; the first one of a list). Other fields are ignored, and so are blank lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use lookahead_model::chat_template::Message;
use serde::Deserialize;

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PromptContent {
    /// One question, or a text to be continued.
    Text(String),
    /// A conversation.
    Messages(Vec<Message>),
}

/// One line of a prompt file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PromptRecord {
    /// What the file calls it.
    pub(crate) id: Option<String>,
    /// What kind of prompt it is.
    pub(crate) task: Option<String>,
    /// The prompt.
    pub(crate) content: PromptContent,
    /// Of a conversation that lists several user turns in a row, to be asked one after the other, the messages of each turn
    /// behind the first, which is `content`.
    pub(crate) later: Vec<Vec<Message>>,
    /// Whether it is for the model as it stands, without the chat template.
    pub(crate) raw: bool,
    /// An answer to it.
    pub(crate) reference: Option<String>,
}

/// Reads the prompts of a file, at most the first `limit`.
///
/// # Errors
/// If the file cannot be read, or a line is no prompt; the message names file and line.
pub(crate) fn read_prompts(path: &Path, limit: Option<usize>) -> anyhow::Result<Vec<PromptRecord>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read prompts from {name}"))?;
    read(path, BufReader::new(file), limit)
}

/// The prompts of `text`, which is called `name`.
///
/// # Errors
/// If a line is no prompt.
pub(crate) fn parse_prompts(name: &Path, text: &str) -> anyhow::Result<Vec<PromptRecord>> {
    read(name, text.as_bytes(), None)
}

fn read(path: &Path, text: impl BufRead, limit: Option<usize>) -> anyhow::Result<Vec<PromptRecord>> {
    let name = path.display();
    let mut prompts = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if limit.is_some_and(|limit| prompts.len() >= limit) {
            break;
        }
        let line = line.with_context(|| format!("{name}, line {number}: cannot be read"))?;
        if !line.trim().is_empty() {
            prompts.push(parse(&line).with_context(|| format!("{name}, line {number}: not a prompt"))?);
        }
    }
    Ok(prompts)
}

/// A line as it is written.
#[derive(Deserialize)]
struct Line {
    id: Option<Id>,
    task: Option<String>,
    mode: Option<Mode>,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    reference: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Chat,
    Completion,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    One(String),
    Several(Vec<String>),
}

fn parse(line: &str) -> anyhow::Result<PromptRecord> {
    let line: Line = serde_json::from_str(line)?;
    let (content, later) = match (line.prompt, line.messages) {
        (Some(text), None) => (PromptContent::Text(text), Vec::new()),
        (None, Some(messages)) => {
            let mut turns = turns(&messages);
            ensure!(!turns.is_empty(), "`messages` is empty");
            (PromptContent::Messages(turns.remove(0)), turns)
        }
        (None, None) => bail!("neither `prompt` nor `messages`"),
        (Some(_), Some(_)) => bail!("both `prompt` and `messages`"),
    };
    Ok(PromptRecord {
        id: line.id.map(|id| match id {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }),
        task: line.task,
        content,
        later,
        raw: line.mode == Some(Mode::Completion),
        reference: line.reference.and_then(|reference| match reference {
            Reference::One(text) => Some(text),
            Reference::Several(texts) => texts.into_iter().next(),
        }),
    })
}

/// The messages of each turn that the model is to answer: a turn ends where a user speaks again, and at the end.
fn turns(messages: &[Message]) -> Vec<Vec<Message>> {
    let is_unanswered = |a: &Message, b: &Message| a.role == "user" && b.role == "user";
    messages.chunk_by(|a, b| !is_unanswered(a, b)).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &str, limit: Option<usize>) -> anyhow::Result<Vec<PromptRecord>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read_prompts(file.path(), limit)
    }

    fn message(role: &str, content: &str) -> Message {
        Message::new(role, content)
    }

    #[test]
    fn a_line_is_a_text_or_a_conversation() {
        let text = r#"{"id": "a/1", "task": "code", "mode": "completion", "prompt": "def f", "reference": ["x", "y"]}

            {"id": 7, "mode": "chat", "messages": [{"role": "user", "content": "Hi"}], "source": {"any": 1}, "reference": null}
            {"prompt": "third"}"#;
        let prompts = read(text, None).unwrap();
        assert_eq!(
            prompts[0],
            PromptRecord {
                id: Some("a/1".to_owned()),
                task: Some("code".to_owned()),
                content: PromptContent::Text("def f".to_owned()),
                later: Vec::new(),
                raw: true,
                reference: Some("x".to_owned()),
            }
        );
        assert_eq!(prompts[1].id.as_deref(), Some("7"));
        assert_eq!(prompts[1].content, PromptContent::Messages(vec![message("user", "Hi")]));
        assert!(!prompts[1].raw && prompts[1].reference.is_none());
        assert_eq!(prompts.len(), 3);
        assert_eq!(read(text, Some(2)).unwrap(), prompts[..2]);
    }

    #[test]
    fn messages_are_read_as_clients_write_them() {
        let text = r#"{"messages": [
            {"role": "System", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
            {"role": "USER", "content": "Hi"},
            {"role": "assistant", "content": null, "reasoning": "hm", "reasoning_content": "hm", "tool_calls": [{}]},
            {"role": "function", "name": "f", "content": "3"},
            {"role": "assistant"}]}"#;
        let prompts = read(&text.replace('\n', ""), None).unwrap();
        let PromptContent::Messages(messages) = &prompts[0].content else { panic!("{prompts:?}") };
        let said: Vec<_> =
            messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(
            said,
            [("system", "Be kind."), ("user", "Hi"), ("assistant", ""), ("tool", "3"), ("assistant", "")]
        );
        assert_eq!(messages[2].reasoning.as_deref(), Some("hm"));
    }

    #[test]
    fn user_turns_in_a_row_are_asked_one_after_the_other() {
        for (roles, expected) in [
            (&["user", "user"][..], &[1, 1][..]),
            (&["system", "user", "user", "user"], &[2, 1, 1]),
            (&["user", "assistant", "user"], &[3]),
            (&["user", "assistant", "user", "user", "assistant", "user"], &[3, 3]),
        ] {
            let messages: Vec<Message> = roles.iter().map(|role| message(role, "x")).collect();
            let lengths: Vec<usize> = turns(&messages).iter().map(Vec::len).collect();
            assert_eq!(lengths, expected, "{roles:?}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        let good = "{\"prompt\": \"x\"}\n\n";
        for (line, problem) in [
            ("{\"prompt\": ", "EOF"),
            ("[1]", "invalid"),
            ("{\"id\": \"x\"}", "neither `prompt` nor `messages`"),
            ("{\"prompt\": \"x\", \"messages\": []}", "both"),
            ("{\"messages\": []}", "`messages` is empty"),
            ("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}", "image_url"),
            ("{\"prompt\": \"x\", \"mode\": \"chta\"}", "chta"),
            ("{\"prompt\": 3}", "expected a string"),
        ] {
            let error = format!("{:#}", read(&format!("{good}{line}"), None).unwrap_err());
            assert!(error.contains("line 3: not a prompt") && error.contains(problem), "{error}");
        }
        assert!(
            read_prompts(Path::new("no/such.jsonl"), None).unwrap_err().to_string().contains("no/such.jsonl")
        );
    }
}
