//! How results and errors reach the person or the program that reads them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};

/// Stdout was closed by its reader, as in `lookahead models | head -1`: a reason to stop, not to complain.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed")
    }
}

impl std::error::Error for Closed {}

/// Locked stdout whose broken pipe can be told from any other (such as that of a network connection).
pub(crate) struct Stdout {
    lock: io::StdoutLock<'static>,
    is_terminal: bool,
}

/// Locks stdout for writing results.
pub(crate) fn stdout() -> Stdout {
    let lock = io::stdout().lock();
    Stdout { is_terminal: lock.is_terminal(), lock }
}

impl Stdout {
    /// Writes what a model said: to a file or a pipe as it is, to a terminal so that it cannot command it.
    pub(crate) fn write_said(&mut self, text: &str) -> io::Result<()> {
        let text = if self.is_terminal { without_controls(text) } else { text.into() };
        self.write_all(text.as_bytes())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock.write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock.flush().map_err(mark_closed)
    }
}

/// What a model said, for stderr.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if io::stderr().is_terminal() { without_controls(text) } else { text.into() }
}

/// `text` with control characters, but line feed and tab, as pictures: escape sequences could move the cursor or
/// retitle the window.
fn without_controls(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && c != '\n' && c != '\t';
    let picture = |c: char| match c {
        '\0'..' ' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        _ => char::REPLACEMENT_CHARACTER,
    };
    if text.contains(is_command) {
        text.chars().map(|c| if is_command(c) { picture(c) } else { c }).collect()
    } else {
        text.into()
    }
}

fn mark_closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe { io::Error::other(Closed) } else { error }
}

/// Whether `error` only says that nobody reads stdout any more.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.and_then(|inner| inner.downcast_ref::<Closed>()).is_some()
    })
}

/// The text of an error: what failed, then why, one cause a line. Causes that only repeat are left out.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {}\n", indent(&error.to_string()));
    let mut previous = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !previous.contains(&cause) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  because: {}", indent(&cause));
        }
        previous = cause;
    }
    text
}

/// Puts every line but the first four columns to the right.
fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_each_cause_once() {
        let error = anyhow::anyhow!("disk on fire")
            .context("cannot write: disk on fire")
            .context("cannot pull x\nhint: try y");
        assert_eq!(
            describe(&error),
            "error: cannot pull x\n    hint: try y\n  because: cannot write: disk on fire\n"
        );
    }

    #[test]
    fn a_terminal_gets_no_escape_sequences() {
        assert_eq!(without_controls("a\x1b[31m\tb\n\u{9b}é\x7f"), "a␛[31m\tb\n\u{fffd}é\u{fffd}");
        assert!(matches!(without_controls("a\tb\né"), Cow::Borrowed(_)));
    }

    #[test]
    fn only_stdout_can_be_closed_quietly() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed(&anyhow::Error::from(mark_closed(pipe())).context("cannot print")));
        assert!(!is_closed(&anyhow::Error::from(pipe()).context("cannot read from the network")));
    }
}
