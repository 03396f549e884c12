//! Progress on stderr: bars and spinners where a person watches, plain lines otherwise.

use std::io::{self, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const BYTES: &str =
    "{msg} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta}";
const STEPS: &str = "{wide_msg} [{bar:30}] {pos}/{len}  {elapsed}, {eta} left";
const SPINNER: &str = "{spinner} {msg}  {elapsed}";

/// Prints one line.
pub(crate) fn note(line: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

/// A bar of `total_bytes`. It shows on a terminal only; indicatif sees to that.
pub(crate) fn bytes(message: impl Into<String>, total_bytes: u64) -> ProgressBar {
    ProgressBar::new(total_bytes).with_style(style(BYTES)).with_message(message.into())
}

/// A bar of `total` steps of some work, with the time left; on a terminal only.
pub(crate) fn steps(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_style(style(STEPS));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A sign of life for a job of unknown length, on a terminal only.
pub(crate) fn spinner(message: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_style(style(SPINNER)).with_message(message.into());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid() {
        for template in [BYTES, STEPS, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
