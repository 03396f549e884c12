//! Messages from the keyboard or from a pipe, of one line or several.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

/// A line, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// What was typed.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of a file.
    End,
}

/// Where lines come from.
pub(super) trait Lines {
    /// The next line; `prompt` asks a person for it.
    fn line(&mut self, prompt: &str) -> anyhow::Result<Input>;
}

/// Marks the beginning and the end of a text of several lines.
const FENCE: &str = "\"\"\"";

/// Reads one message. A backslash at the end of a line continues on the next; a line that begins with `"""` begins a
/// text that ends with `"""`. Where the input ends in the middle, the message is what there is.
pub(super) fn read_message(lines: &mut impl Lines) -> anyhow::Result<Input> {
    let mut line = match lines.line("> ")? {
        Input::Text(line) => line,
        other => return Ok(other),
    };
    let fenced = if let Some(rest) = line.trim_start().strip_prefix(FENCE) {
        line = rest.to_owned();
        true
    } else {
        false
    };
    let end = if fenced { FENCE } else { "\\" };
    let mut message = String::new();
    loop {
        let without_end = line.trim_end().strip_suffix(end);
        message.push_str(without_end.unwrap_or(&line));
        if without_end.is_some() == fenced {
            return Ok(Input::Text(message));
        }
        line = match lines.line(". ")? {
            Input::Text(line) => line,
            Input::Interrupted => return Ok(Input::Interrupted),
            Input::End => return Ok(Input::Text(message)),
        };
        // The line feed behind an opening fence belongs to the fence.
        if !(fenced && message.is_empty()) {
            message.push('\n');
        }
    }
}

/// A person at a terminal, or a pipe.
pub(super) enum Source {
    Keyboard(Box<Keyboard>),
    Pipe(io::Lines<io::StdinLock<'static>>),
}

impl Source {
    /// The keyboard with its history in the file `history`, if stdin and stdout are a terminal; else a pipe.
    pub(super) fn open(history: Option<PathBuf>) -> anyhow::Result<Self> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            Ok(Self::Keyboard(Box::new(Keyboard::new(history)?)))
        } else {
            Ok(Self::Pipe(io::stdin().lines()))
        }
    }

    /// Whether a person types.
    pub(super) fn is_keyboard(&self) -> bool {
        matches!(self, Self::Keyboard(_))
    }

    /// Adds a message to the history.
    pub(super) fn remember(&mut self, message: &str) {
        if let Self::Keyboard(keyboard) = self {
            keyboard.remember(message);
        }
    }
}

impl Lines for Source {
    fn line(&mut self, prompt: &str) -> anyhow::Result<Input> {
        match self {
            Self::Keyboard(keyboard) => keyboard.line(prompt),
            Self::Pipe(lines) => {
                match lines.next().transpose().context("cannot read the questions from stdin")? {
                    Some(line) => Ok(Input::Text(line)),
                    None => Ok(Input::End),
                }
            }
        }
    }
}

/// Line editing with a history.
pub(super) struct Keyboard {
    editor: rustyline::Editor<(), FileHistory>,
    history: Option<PathBuf>,
}

/// Messages that the history keeps.
const HISTORY_MESSAGES: usize = 1000;

impl Keyboard {
    fn new(history: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut editor = rustyline::Editor::<(), FileHistory>::new().context("cannot use this terminal")?;
        editor.set_max_history_size(HISTORY_MESSAGES)?;
        if let Some(path) = &history
            && path.exists()
            && let Err(error) = editor.load_history(path)
        {
            tracing::warn!(%error, path = %path.display(), "cannot read the history");
        }
        Ok(Self { editor, history })
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Input> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Input::Text(line)),
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }

    /// Adds a message to the history and to its file, at once: a crash loses nothing. Without a file that can be
    /// written, the history lasts as long as the chat.
    fn remember(&mut self, message: &str) {
        let Ok(true) = self.editor.add_history_entry(message) else { return };
        if let Some(path) = &self.history {
            let made = path.parent().map_or(Ok(()), |directory: &Path| fs::create_dir_all(directory));
            let written = made.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(path));
            if let Err(error) = written {
                tracing::warn!(%error, path = %path.display(), "cannot write the history");
                self.history = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Typed(Vec<Input>);

    impl Lines for Typed {
        fn line(&mut self, _prompt: &str) -> anyhow::Result<Input> {
            Ok(if self.0.is_empty() { Input::End } else { self.0.remove(0) })
        }
    }

    /// All messages in `text`.
    fn messages(text: &str) -> Vec<String> {
        let mut lines = Typed(text.lines().map(|line| Input::Text(line.to_owned())).collect());
        let mut messages = Vec::new();
        while let Input::Text(message) = read_message(&mut lines).unwrap() {
            messages.push(message);
        }
        messages
    }

    #[test]
    fn a_message_is_a_line_or_several() {
        for (typed, expected) in [
            ("one\ntwo", &["one", "two"][..]),
            ("one\\\ntwo\\\nthree\nfour", &["one\ntwo\nthree", "four"]),
            ("one\\", &["one"]),
            ("\"\"\"one\n two\\\n\"\"\"\nthree", &["one\n two\\\n", "three"]),
            ("\"\"\"\none\n\"\"\"", &["one\n"]),
            ("\"\"\"one\"\"\"\ntwo", &["one", "two"]),
            ("\"\"\"one\ntwo", &["one\ntwo"]),
            ("say \"\"\"\nx", &["say \"\"\"", "x"]),
            ("\n", &[""]),
        ] {
            assert_eq!(messages(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn control_c_gives_up_a_message_of_several_lines() {
        let mut lines =
            Typed(vec![Input::Text("one\\".to_owned()), Input::Interrupted, Input::Text("two".to_owned())]);
        assert_eq!(read_message(&mut lines).unwrap(), Input::Interrupted);
        assert_eq!(read_message(&mut lines).unwrap(), Input::Text("two".to_owned()));
    }
}
