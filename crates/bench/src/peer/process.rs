//! A program that runs beside this one, and what it says.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// How much of what a program said is shown.
const TAIL_BYTES: u64 = 4096;

/// How often it is asked whether a program has ended.
const POLL: Duration = Duration::from_millis(10);

/// A running program, ended with the value. What it says goes to a file rather than through a pipe, which a program that
/// nobody listens to would fill, and then wait.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: NamedTempFile,
}

impl Process {
    /// Starts `command` without input.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let output = NamedTempFile::new()?;
        // Opened again, for reading here must not move the place at which the program writes.
        let stdout = output.reopen()?;
        let stderr = stdout.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn()?;
        Ok(Self { child, output })
    }

    /// With what it ended, once it has: waits no longer than `limit`.
    pub(super) fn ended_within(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    }

    /// The last lines that it said, without anything that would command a terminal.
    pub(super) fn said(&self) -> String {
        let text = tail(self.output.as_file()).unwrap_or_else(|error| format!("({error})"));
        let text: String = text.chars().filter(|&c| c == '\n' || !c.is_control()).collect();
        match text.trim() {
            "" => "(it said nothing)".to_owned(),
            text => text.to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill, and waiting still frees its entry.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole lines in the last [`TAIL_BYTES`] of `file`.
fn tail(mut file: &File) -> io::Result<String> {
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(match text.split_once('\n') {
        Some((_, whole_lines)) if start > 0 => whole_lines.to_owned(),
        _ => text.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_the_last_whole_lines_are_shown() {
        let mut file = tempfile::tempfile().unwrap();
        for line in 0..10_000 {
            writeln!(file, "line {line}").unwrap();
        }
        let text = tail(&file).unwrap();
        assert!(text.len() <= TAIL_BYTES as usize && text.ends_with("line 9999\n"), "{text}");
        let first = text.lines().next().unwrap().strip_prefix("line ").unwrap();
        assert_eq!(text.lines().count(), 10_000 - first.parse::<usize>().unwrap());
    }
}
