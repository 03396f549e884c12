//! Colours: accepted drafts in green, remarks dim.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use crate::answer::Piece;
use crate::output::Stdout;
use crate::progress;

const GREEN: &str = "\x1b[32m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Which streams may be coloured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    stdout: bool,
    stderr: bool,
}

impl Paint {
    /// Colours go to terminals, unless the user wants none (`NO_COLOR`, see no-color.org) or there are none.
    pub(super) fn detect() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        Self { stdout: wanted && io::stdout().is_terminal(), stderr: wanted && io::stderr().is_terminal() }
    }

    /// Whether drafts can be shown.
    pub(super) fn can_show_drafts(self) -> bool {
        self.stdout
    }

    /// Prints a remark to stderr.
    pub(super) fn note(self, remark: &str) {
        progress::note(&if self.stderr { format!("{DIM}{remark}{RESET}") } else { remark.to_owned() });
    }

    /// Prints what the colour of drafts means.
    pub(super) fn legend(self) {
        if self.can_show_drafts() {
            progress::note(&format!(
                "{GREEN}Green{RESET}: drafted tokens that the model accepted, several in one pass"
            ));
        } else {
            progress::note(
                "Drafts are not shown: there are no colours here (no terminal, or NO_COLOR is set)",
            );
        }
    }

    /// A brush for one answer.
    pub(super) fn brush(self, show_drafts: bool) -> Brush {
        Brush { show_drafts: show_drafts && self.can_show_drafts(), green: false }
    }
}

/// Writes the pieces of one answer, changing colour between them.
#[derive(Debug)]
pub(super) struct Brush {
    show_drafts: bool,
    green: bool,
}

impl Brush {
    /// Writes a piece, and shows it if it ends a step.
    pub(super) fn write(&mut self, stdout: &mut Stdout, piece: Piece<'_>) -> io::Result<()> {
        if !piece.text.is_empty() {
            self.turn(stdout, piece.drafted)?;
            stdout.write_said(piece.text)?;
        }
        if piece.ends_step { stdout.flush() } else { Ok(()) }
    }

    /// Ends the answer: what follows has no colour.
    pub(super) fn finish(mut self, stdout: &mut Stdout) -> io::Result<()> {
        self.turn(stdout, false)?;
        stdout.flush()
    }

    fn turn(&mut self, stdout: &mut Stdout, drafted: bool) -> io::Result<()> {
        let green = self.show_drafts && drafted;
        if green != self.green {
            self.green = green;
            stdout.write_all(if green { GREEN } else { RESET }.as_bytes())?;
        }
        Ok(())
    }
}
