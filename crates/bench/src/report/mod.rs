//! The reports of a benchmark: what is in `report.md` and `report.html`, as one document that both are written from.
//!
//! Numbers that were not measured, and those that are no numbers, are a dash.

mod format;
mod html;
mod markdown;
mod plots;
mod summary;
mod tables;

use std::io::{self, Write as _};
use std::path::Path;

use self::format::grouped;
pub use self::summary::summary;
use self::tables::{
    batch_table, curve_table, details_table, headline_table, peer_table, policy_table, subject_table,
};
use crate::results::{LookaheadResults, Lossless, Results, TaskResults};
use crate::setting::Warmth;

/// The folder of the pictures, beside the reports.
const PLOTS: &str = "plots";

/// What stands where there is no number.
const NOTHING: &str = "–";

/// The report as Markdown. Its pictures are the files `plots/….svg` beside it, which [`write()`] writes.
pub fn markdown(results: &Results) -> String {
    markdown::render(&Document::new(results))
}

/// The report as a page that needs no other file and no network.
pub fn html(results: &Results) -> String {
    html::render(&Document::new(results))
}

/// Writes `results.json`, `report.md`, `report.html` and `plots/….svg` into `directory`, which is made if it is not there.
/// Each file is there as a whole or not at all.
///
/// # Errors
/// If a file cannot be written.
pub fn write(results: &Results, directory: &Path) -> io::Result<()> {
    let document = Document::new(results);
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

/// A report, in any form.
struct Document {
    title: String,
    subtitle: String,
    blocks: Vec<Block>,
}

/// A part of a report.
enum Block {
    Heading(&'static str),
    Text(String),
    /// Whether the answers are those of plain decoding, in a sentence that nobody overlooks.
    Verdict {
        holds: bool,
        text: String,
    },
    Table(Table),
    Plot(Plot),
    Definitions(Vec<(&'static str, &'static str)>),
}

/// A table. Texts stand left, numbers right.
struct Table {
    columns: Vec<String>,
    /// How many columns, from the left, hold texts.
    texts: usize,
    rows: Vec<Vec<Cell>>,
    /// Whether the last row sums up the others.
    has_mean: bool,
}

/// A cell of a table.
struct Cell {
    text: String,
    is_best: bool,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), is_best: false }
    }
}

/// A picture, or why there is none.
struct Plot {
    /// The name of its file, without `.svg`.
    name: &'static str,
    title: &'static str,
    /// What it shows, in a sentence.
    caption: String,
    svg: Result<String, String>,
}

impl Document {
    fn new(results: &Results) -> Self {
        let subject = &results.subject;
        let mut blocks = vec![verdict(results.lossless), Block::Table(subject_table(subject))];
        let add_plot = |blocks: &mut Vec<Block>, plot: Option<Plot>| blocks.extend(plot.map(Block::Plot));

        blocks.push(Block::Heading("Speed by task"));
        let policies = policies(results);
        match policies.first() {
            _ if results.tasks.is_empty() => blocks.push(Block::Text("No task was measured.".to_owned())),
            None => blocks.push(Block::Text("Only plain decoding was measured.".to_owned())),
            Some(policy) => {
                blocks.push(Block::Text(format!(
                    "Draft policy: {policy}. The words are explained at the end."
                )));
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
        Self { title, subtitle: format!("on {}, threads: {}", subject.cpu, subject.threads), blocks }
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

/// The policies, in the order of their measurement.
fn policies(results: &Results) -> Vec<&str> {
    let mut policies: Vec<&str> = Vec::new();
    for ours in results.tasks.iter().flat_map(|task| &task.lookahead) {
        if !policies.contains(&ours.policy.as_str()) {
            policies.push(&ours.policy);
        }
    }
    policies
}

/// What `policy` was measured with in any task.
fn warmths(results: &Results, policy: &str) -> Vec<Warmth> {
    let is_measured =
        |&warmth: &Warmth| results.tasks.iter().any(|task| find(task, policy, warmth).is_some());
    Warmth::ALL.into_iter().filter(is_measured).collect()
}

fn find<'a>(task: &'a TaskResults, policy: &str, warmth: Warmth) -> Option<&'a LookaheadResults> {
    task.lookahead.iter().find(|ours| ours.policy == policy && ours.warmth == warmth)
}

#[cfg(test)]
mod tests;
