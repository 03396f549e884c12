//! The reports of a benchmark: what is in `report.md` and `report.html`, as one document that both are written from.
//!
//! Numbers that were not measured, and those that are no numbers, are a dash.

mod document;
mod format;
mod html;
mod markdown;
mod plots;
mod selection;
mod summary;
mod tables;

use std::io::{self, Write as _};
use std::path::Path;

use self::document::{Block, Document, PLOTS, Plot};
use self::format::grouped;
use self::selection::policies;
pub use self::summary::summary;
use self::tables::{
    batch_table, curve_table, details_table, headline_table, peer_table, policy_table, subject_table,
};
use crate::results::{Lossless, Results};
use crate::setting::Warmth;

/// The report as Markdown. Its pictures are the files `plots/….svg` beside it, which [`write()`] writes.
pub fn markdown(results: &Results) -> String {
    markdown::render(&document(results))
}

/// The report as a page that needs no other file and no network.
pub fn html(results: &Results) -> String {
    html::render(&document(results))
}

/// Writes `results.json`, `report.md`, `report.html` and `plots/….svg` into `directory`, which is made if it is not there.
/// Each file is there as a whole or not at all.
///
/// # Errors
/// If a file cannot be written.
pub fn write(results: &Results, directory: &Path) -> io::Result<()> {
    let document = document(results);
    let plots = directory.join(PLOTS);
    std::fs::create_dir_all(&plots)?;
    write_whole(&directory.join("results.json"), &(serde_json::to_string_pretty(results)? + "\n"))?;
    for block in &document.blocks {
        if let Block::Plot(Plot { name, svg: Ok(svg), .. }) = block {
            write_whole(&plots.join(format!("{name}.svg")), svg)?;
        }
    }
    write_whole(&directory.join("report.md"), &markdown::render(&document))?;
    write_whole(&directory.join("report.html"), &html::render(&document))
}

/// Puts a file with `content` in the place of `path`.
fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-");
    // A report is as readable as any other file, unlike most temporary ones.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// What is in the report.
fn document(results: &Results) -> Document {
    let subject = &results.subject;
    let mut blocks = vec![verdict(results.lossless), Block::Table(subject_table(subject))];
    let add_plot = |blocks: &mut Vec<Block>, plot: Option<Plot>| blocks.extend(plot.map(Block::Plot));

    blocks.push(Block::Heading("Speed by task"));
    let policies = policies(results);
    match policies.first() {
        _ if results.tasks.is_empty() => blocks.push(Block::Text("No task was measured.".to_owned())),
        None => blocks.push(Block::Text("Only plain decoding was measured.".to_owned())),
        Some(policy) => {
            blocks.push(Block::Text(format!("Draft policy: {policy}. The words are explained at the end.")));
        }
    }
    if !results.tasks.is_empty() {
        blocks.push(Block::Table(headline_table(results, policies.first().copied())));
    }
    add_plot(&mut blocks, plots::speed_up(results));

    if policies.len() > 1 {
        blocks.push(Block::Heading("Draft policies"));
        let warmths = [Warmth::Cold, Warmth::Same];
        let tables = warmths.map(|warmth| policy_table(results, &policies, warmth));
        blocks.extend(tables.into_iter().flatten().map(Block::Table));
        add_plot(&mut blocks, plots::draft_length(results));
        add_plot(&mut blocks, plots::source(results));
    }
    if !policies.is_empty() {
        blocks.push(Block::Heading("Details"));
        blocks.push(Block::Table(details_table(results)));
        add_plot(&mut blocks, plots::accepted_length(results));
        add_plot(&mut blocks, plots::online(results));
    }
    if !results.batches.is_empty() {
        blocks.push(Block::Heading("Several prompts at once"));
        blocks.push(Block::Table(batch_table(results)));
    }
    if let Some(table) = peer_table(results, policies.first().copied()) {
        blocks.push(Block::Heading("Other programs"));
        if let Some(peer) = &subject.peer {
            blocks.push(Block::Text(format!("Measured against {peer}.")));
        }
        blocks.push(Block::Table(table));
    }
    if !results.curve.is_empty() {
        blocks.push(Block::Heading("Cost of a forward pass"));
        add_plot(&mut blocks, plots::cost_curve(results));
        blocks.push(Block::Table(curve_table(results)));
    }
    blocks.extend([Block::Heading("What the words mean"), Block::Definitions(DEFINITIONS.to_vec())]);
    let title = format!("Lookahead with {}", subject.model);
    Document {
        title,
        subtitle: format!(
            "on {}, threads: {}",
            subject.gpu.as_ref().unwrap_or(&subject.cpu),
            subject.threads
        ),
        blocks,
    }
}

const DEFINITIONS: [(&str, &str); 18] = [
    ("plain", "Decoding without drafts: one token a forward pass."),
    ("tokens/s", "New tokens per second of decoding, the first of each answer not counted."),
    ("a (b–c)", "The median of the repeats, and the least and the greatest of them."),
    ("speed-up", "The time of plain decoding over the time with Lookahead, on the same prompts."),
    ("paired", "The median of the speed-ups of single prompts."),
    (
        "by the curve",
        "What the drafts would be worth if each pass took what the cost curve says, and drafting nothing.",
    ),
    ("EDL", "Effective decoding length: tokens per forward pass. Plain decoding has 1."),
    ("cold", "Lookahead knows nothing before a prompt: it drafts from the prompt and the answer so far."),
    ("same", "It has learned the answers to other prompts of the same task."),
    ("other", "It has learned the answers to prompts of the other tasks."),
    ("online", "It has learned the answers to the prompts of the task that came before."),
    (
        "drafted, accepted",
        "Draft tokens per forward pass that were checked, and that were right; on average.",
    ),
    ("drafting", "The share of the decode time that goes into finding drafts."),
    ("TTFT", "Time to the first token: the time that the prompt takes; the median of all prompts."),
    ("changed", "Answers of the other program that differ from those of its own plain mode."),
    (
        "over its best mode",
        "The tokens/s of Lookahead, cold or same, whichever has more, over those of the fastest mode of the other \
         program, on the prompts that it was given.",
    ),
    ("c(N)", "The time of a forward pass of N tokens over that of one token."),
    ("mean", "The geometric mean of speed-ups, EDLs and ratios; the arithmetic one of all else."),
];

fn verdict(lossless: Lossless) -> Block {
    let (answers, tokens) = (grouped(lossless.answers as u64), grouped(lossless.tokens as u64));
    let text = match lossless {
        Lossless { answers: 0, .. } => "Losslessness: no answer was compared with plain decoding.".to_owned(),
        Lossless { differing: 0, .. } => {
            format!("Lossless: {answers} answers, {tokens} tokens: all equal to plain decoding.")
        }
        Lossless { differing, .. } => format!(
            "NOT LOSSLESS: {} of {answers} answers ({tokens} tokens) differ from plain decoding.",
            grouped(differing as u64)
        ),
    };
    Block::Verdict { holds: lossless.differing == 0 && lossless.answers > 0, text }
}

#[cfg(test)]
mod tests;
