//! Colours: accepted drafts in green, thoughts and remarks dim.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use crate::answer::{Part, Piece};
use crate::output::{self, Stdout};
use crate::progress;

const GREEN: &str = "\x1b[32m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Which streams may be coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    stdout: bool,
    stderr: bool,
}

impl Paint {
    /// Colours go to terminals, unless the user wants none (`NO_COLOR`, see no-color.org) or there are none.
    pub(crate) fn detect() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        Self { stdout: wanted && io::stdout().is_terminal(), stderr: wanted && io::stderr().is_terminal() }
    }

    /// Whether drafts can be shown.
    pub(crate) fn can_show_drafts(self) -> bool {
        self.stdout
    }

    /// Prints a remark to stderr.
    pub(crate) fn note(self, remark: &str) {
        progress::note(&if self.stderr { format!("{DIM}{remark}{RESET}") } else { remark.to_owned() });
    }

    /// Prints what the colour of drafts means.
    pub(crate) fn legend(self) {
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
    pub(crate) fn brush(self, show_drafts: bool) -> Brush {
        let show_drafts = show_drafts && self.can_show_drafts();
        Brush { paint: self, show_drafts, green: false, is_thinking: false }
    }
}

/// Writes the pieces of one answer, changing colour between them: thoughts to stderr, the answer to stdout.
#[derive(Debug)]
pub(crate) struct Brush {
    paint: Paint,
    show_drafts: bool,
    green: bool,
    is_thinking: bool,
}

impl Brush {
    /// Writes a piece, and shows it if it ends a step.
    pub(crate) fn write(&mut self, stdout: &mut Stdout, piece: Piece<'_>) -> io::Result<()> {
        match piece.part {
            _ if piece.text.is_empty() => {}
            Part::Reasoning => {
                if !self.is_thinking {
                    self.turn(stdout, false)?;
                    stdout.flush()?;
                    if !self.paint.stderr {
                        progress::note("Thinking:");
                    }
                    self.is_thinking = true;
                }
                let text = output::harmless(piece.text);
                let (dim, reset) = if self.paint.stderr { (DIM, RESET) } else { ("", "") };
                // A closed stderr is no reason to fail.
                let _ = write!(io::stderr(), "{dim}{text}{reset}");
            }
            Part::Text => {
                self.end_thinking();
                self.turn(stdout, piece.drafted)?;
                stdout.write_said(piece.text)?;
            }
        }
        if piece.ends_step { stdout.flush() } else { Ok(()) }
    }

    /// Ends the answer: what follows has no colour.
    pub(crate) fn finish(mut self, stdout: &mut Stdout) -> io::Result<()> {
        self.end_thinking();
        self.turn(stdout, false)?;
        stdout.flush()
    }

    /// Sets thoughts apart from what follows, by a blank line.
    fn end_thinking(&mut self) {
        if std::mem::take(&mut self.is_thinking) {
            progress::note("\n");
        }
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
