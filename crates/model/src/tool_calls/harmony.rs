//! The channels of gpt-oss: what an answer consists of stands in messages, each with a header that tells what it is.

use super::delta::Deltas;
use super::finder::Finder;

/// The control tokens of the format.
pub(super) const TOKENS: &[&str] =
    &["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"];

/// Longest header in bytes.
const LONGEST_HEADER: usize = 1024;

/// Sorts messages by their headers, in an answer that arrives in pieces.
#[derive(Clone, Debug)]
pub(super) struct Harmony {
    place: Place,
    tokens: Finder,
}

#[derive(Clone, Debug)]
enum Place {
    /// In a header, of which this was read.
    Header(String),
    /// In a message.
    Message(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Content,
    /// The arguments of a call; whether some have come.
    Arguments {
        have_begun: bool,
    },
}

impl Default for Harmony {
    fn default() -> Self {
        Self { place: Place::Header(String::new()), tokens: Finder::new(TOKENS.iter().copied()) }
    }
}

impl Harmony {
    pub(super) fn push(&mut self, text: &str, out: &mut Deltas) {
        let mut free = String::new();
        for character in text.chars() {
            let token = self.tokens.push(character, &mut free);
            self.read(&mut free, out);
            if let Some(token) = token {
                self.read_token(token, out);
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Deltas) {
        let mut free = self.tokens.finish();
        self.read(&mut free, out);
        self.end_message(out);
        self.place = Place::Header(String::new());
    }

    /// Reads text without tokens, character by character.
    fn read(&mut self, text: &mut String, out: &mut Deltas) {
        for character in text.drain(..) {
            match &mut self.place {
                Place::Header(header) => {
                    header.push(character);
                    if !is_header(header) {
                        out.content(header);
                        self.place = Place::Message(Kind::Content);
                    }
                }
                Place::Message(Kind::Arguments { have_begun: false }) if character.is_whitespace() => {}
                Place::Message(kind) => {
                    let mut bytes = [0; 4];
                    let text = character.encode_utf8(&mut bytes);
                    match kind {
                        Kind::Reasoning => out.reasoning(text),
                        Kind::Content => out.content(text),
                        Kind::Arguments { have_begun } => {
                            *have_begun = true;
                            out.arguments(text);
                        }
                    }
                }
            }
        }
    }

    fn read_token(&mut self, token: &str, out: &mut Deltas) {
        match (token, &mut self.place) {
            ("<|message|>", Place::Header(header)) => {
                let (kind, call) = kind(header);
                if let Some(name) = call {
                    out.call(name);
                }
                self.place = Place::Message(kind);
            }
            ("<|channel|>" | "<|constrain|>", Place::Header(header)) => header.push_str(token),
            ("<|constrain|>" | "<|message|>", Place::Message(_)) => self.read(&mut token.to_owned(), out),
            _ => {
                self.end_message(out);
                let header = if token == "<|channel|>" { token.to_owned() } else { String::new() };
                self.place = Place::Header(header);
            }
        }
    }

    fn end_message(&mut self, out: &mut Deltas) {
        if let Place::Message(Kind::Arguments { have_begun: false }) = self.place {
            out.arguments("{}");
        }
    }
}

/// Whether a header may begin so: with a token, a role or a recipient.
fn is_header(header: &str) -> bool {
    let text = header.trim_start();
    let begins = |known: &&str| text.starts_with(*known) || known.starts_with(text);
    header.len() <= LONGEST_HEADER && ["<|channel|>", "assistant", "to="].iter().any(begins)
}

/// What a message with such a header is, and the tool that it calls.
fn kind(header: &str) -> (Kind, Option<String>) {
    let word_behind = |mark: &str| {
        let (_, rest) = header.split_once(mark)?;
        rest.split(|c: char| c.is_whitespace() || c == '<').next()
    };
    match (word_behind("to="), word_behind("<|channel|>")) {
        (Some(recipient), _) if !recipient.is_empty() => {
            let name = recipient.strip_prefix("functions.").unwrap_or(recipient);
            (Kind::Arguments { have_begun: false }, Some(name.to_owned()))
        }
        (_, Some("analysis")) => (Kind::Reasoning, None),
        _ => (Kind::Content, None),
    }
}
