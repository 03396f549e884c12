//! How results and errors reach the person or the program that reads them.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

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
pub(crate) struct Stdout(io::StdoutLock<'static>);

/// Locks stdout for writing results.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark_closed)
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
    fn only_stdout_can_be_closed_quietly() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed(&anyhow::Error::from(mark_closed(pipe())).context("cannot print")));
        assert!(!is_closed(&anyhow::Error::from(pipe()).context("cannot read from the network")));
    }
}
