//! A report in some lines, for a terminal.

use std::fmt::{self, Write as _};

use super::selection::{find, policies, warmths};
use crate::results::{Lossless, Results};

/// A line for each task: the speed of plain decoding, and how many times as fast the first policy is, with its EDL. Then
/// whether any answer differs.
pub fn summary(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, results);
    text
}

fn write(out: &mut String, results: &Results) -> fmt::Result {
    let Some(&policy) = policies(results).first() else { return writeln!(out, "Nothing was measured") };
    let warmths = warmths(results, policy);
    let width = results.tasks.iter().map(|task| task.task.chars().count()).max().unwrap_or(0).max(4);
    write!(out, "{:width$}  {:>14}", "task", "plain tokens/s")?;
    for warmth in &warmths {
        write!(out, "  {:>7}  EDL ", warmth.as_str())?;
    }
    writeln!(out)?;
    for task in &results.tasks {
        write!(out, "{:width$}  {:>14.1}", task.task, task.plain.tokens_per_s.median)?;
        for &warmth in &warmths {
            match find(task, policy, warmth) {
                Some(ours) => write!(out, "  {:>6.2}x  {:<4.2}", ours.speed_up.median, ours.edl)?,
                None => write!(out, "  {:>7}  {:4}", "-", "-")?,
            }
        }
        writeln!(out)?;
    }
    let Lossless { answers, differing, .. } = results.lossless;
    match differing {
        0 => writeln!(out, "\nAll {answers} answers equal those of plain decoding"),
        _ => writeln!(
            out,
            "\n{differing} of {answers} answers DIFFER from those of plain decoding: please report this"
        ),
    }
}
