//! The reports of a benchmark: what is in `report.md` and `report.html`, as one document that both are written from.
//!
//! Numbers that were not measured, and those that are no numbers, are a dash.

mod html;
mod markdown;
mod plots;

use std::io::{self, Write as _};
use std::path::Path;

use crate::results::{
    LookaheadResults, Lossless, Measure, PeerResults, Results, Spread, Subject, TaskResults,
};
use crate::setting::Warmth;

/// The folder of the pictures, beside the reports.
const PLOTS: &str = "plots";

/// What stands where there is no number.
const NOTHING: &str = "–";

/// The report as Markdown. Its pictures are the files `plots/….svg` beside it, which [`write`] writes.
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

const DEFINITIONS: [(&str, &str); 16] = [
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

fn subject_table(subject: &Subject) -> Table {
    let rows = [
        ("Model", subject.model.clone()),
        ("Size", format!("{:.1} MB", subject.model_bytes as f64 / 1e6)),
        ("CPU", subject.cpu.clone()),
        ("Instruction set", subject.instruction_set.clone()),
        ("Threads", subject.threads.to_string()),
        ("KV cache", subject.kv_type.clone()),
        ("New tokens of an answer, at most", grouped(subject.max_tokens as u64)),
        ("Repeats", subject.repeats.to_string()),
        ("Program", format!("Lookahead {}", subject.program)),
        ("Compared with", subject.peer.clone().unwrap_or_else(|| NOTHING.to_owned())),
    ];
    Table {
        columns: vec!["Subject".to_owned(), String::new()],
        texts: 2,
        rows: rows.into_iter().map(|(name, value)| vec![name.into(), value.into()]).collect(),
        has_mean: false,
    }
}

fn headline_table(results: &Results, policy: Option<&str>) -> Table {
    let warmths = policy.map_or(Vec::new(), |policy| warmths(results, policy));
    let first = warmths.first();
    let mut columns: Vec<String> = ["Task", "Prompts", "Plain tokens/s"].map(str::to_owned).to_vec();
    columns.extend(warmths.iter().map(|warmth| format!("Speed-up {}", warmth.as_str())));
    columns.extend(warmths.iter().map(|warmth| format!("EDL {}", warmth.as_str())));
    columns.push("TTFT plain, ms".to_owned());
    columns.extend(first.map(|warmth| format!("TTFT {}, ms", warmth.as_str())));

    let ours = |task, &warmth: &Warmth| find(task, policy?, warmth);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for task in &results.tasks {
        let mut row: Vec<Cell> = vec![
            task.task.as_str().into(),
            task.prompts.to_string().into(),
            spread(task.plain.tokens_per_s, amount).into(),
        ];
        let of_all = warmths.iter().map(|warmth| ours(task, warmth));
        let speed_up = |ours: &LookaheadResults| spread(ours.speed_up, times);
        row.extend(of_all.clone().map(|ours| Cell::from(ours.map_or(NOTHING.to_owned(), speed_up))));
        row.extend(of_all.map(|ours| Cell::from(number(ours.map_or(f64::NAN, |ours| ours.edl), 2))));
        row.push(amount(task.plain.ttft_ms).into());
        row.extend(first.map(|warmth| {
            Cell::from(amount(ours(task, warmth).map_or(f64::NAN, |ours| ours.measure.ttft_ms)))
        }));
        rows.push(row);
    }
    let has_mean = rows.len() > 1;
    if has_mean {
        let of_warmth = |warmth, value: fn(&LookaheadResults) -> f64| {
            results.tasks.iter().filter_map(|task| ours(task, warmth)).map(value).collect::<Vec<_>>()
        };
        let of_plain = |value: fn(&TaskResults) -> f64| arithmetic_mean(results.tasks.iter().map(value));
        let mut row: Vec<Cell> = vec![
            "mean".into(),
            grouped(results.tasks.iter().map(|task| task.prompts as u64).sum()).into(),
            amount(of_plain(|task| task.plain.tokens_per_s.median)).into(),
        ];
        let speed_up = |warmth| times(geometric_mean(of_warmth(warmth, |ours| ours.speed_up.median)));
        row.extend(warmths.iter().map(|warmth| Cell::from(speed_up(warmth))));
        let edl = |warmth| number(geometric_mean(of_warmth(warmth, |ours| ours.edl)), 2);
        row.extend(warmths.iter().map(|warmth| Cell::from(edl(warmth))));
        row.push(amount(of_plain(|task| task.plain.ttft_ms)).into());
        row.extend(first.map(|warmth| {
            Cell::from(amount(arithmetic_mean(of_warmth(warmth, |ours| ours.measure.ttft_ms))))
        }));
        rows.push(row);
    }
    Table { columns, texts: 1, rows, has_mean }
}

/// Speed-up and EDL of each policy in each task; `None` if nothing was measured with `warmth`.
fn policy_table(results: &Results, policies: &[&str], warmth: Warmth) -> Option<Table> {
    let rows = policies.iter().filter_map(|policy| {
        let values: Vec<(f64, f64)> = results
            .tasks
            .iter()
            .map(|task| {
                find(task, policy, warmth)
                    .map_or((f64::NAN, f64::NAN), |ours| (ours.speed_up.median, ours.edl))
            })
            .collect();
        let (speed_ups, edls) = values.iter().copied().unzip::<_, _, Vec<_>, Vec<_>>();
        let mean = (geometric_mean(speed_ups), geometric_mean(edls));
        mean.1.is_finite().then(|| (policy, std::iter::once(mean).chain(values).collect::<Vec<_>>()))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return None;
    }
    let best: Vec<f64> = (0..=results.tasks.len())
        .map(|column| rows.iter().map(|(_, values)| values[column].0).fold(f64::NAN, f64::max))
        .collect();
    let mut columns = vec![format!("Speed-up and EDL, {}", warmth.as_str()), "mean".to_owned()];
    columns.extend(results.tasks.iter().map(|task| task.task.clone()));
    let rows = rows.into_iter().map(|(policy, values)| {
        let cells = values.iter().zip(&best).map(|(&(speed_up, edl), &best)| Cell {
            text: if edl.is_finite() {
                format!("{}, {}", times(speed_up), number(edl, 2))
            } else {
                NOTHING.to_owned()
            },
            is_best: speed_up == best,
        });
        std::iter::once(Cell::from(*policy)).chain(cells).collect()
    });
    Some(Table { columns, texts: 1, rows: rows.collect(), has_mean: false })
}

fn details_table(results: &Results) -> Table {
    let columns = [
        "Task",
        "Policy",
        "Learned",
        "Tokens/s",
        "Speed-up",
        "Paired",
        "By the curve",
        "EDL",
        "Drafted",
        "Accepted",
        "Drafting",
        "TTFT, ms",
    ];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for task in &results.tasks {
        let plain = [&task.task, "plain", NOTHING, &spread(task.plain.tokens_per_s, amount)].map(Cell::from);
        let mut row = Vec::from(plain);
        row.extend((0..7).map(|_| Cell::from(NOTHING)));
        row.push(amount(task.plain.ttft_ms).into());
        rows.push(row);
        for ours in &task.lookahead {
            let cells = [
                task.task.clone(),
                ours.policy.clone(),
                ours.warmth.as_str().to_owned(),
                spread(ours.measure.tokens_per_s, amount),
                spread(ours.speed_up, times),
                times(ours.paired_speed_up),
                times(ours.speed_up_by_curve),
                number(ours.edl, 2),
                number(mean_length(&ours.draft_lengths), 2),
                number(mean_length(&ours.accepted_lengths), 2),
                percent(ours.retrieval_share),
                amount(ours.measure.ttft_ms),
            ];
            rows.push(cells.map(Cell::from).into());
        }
    }
    Table { columns: columns.map(str::to_owned).to_vec(), texts: 3, rows, has_mean: false }
}

/// Plain decoding and each policy by how many prompts are decoded together.
fn batch_table(results: &Results) -> Table {
    let columns =
        ["Policy", "Prompts at once", "Batches", "Tokens/s of all", "Speed-up", "EDL", "Drafted", "Accepted"];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for batch in &results.batches {
        let row = |policy: &str, measure: Measure, rest: [String; 4]| {
            let counts = [batch.size, batch.batches].map(|count| grouped(count as u64));
            let cells = [policy.to_owned()].into_iter().chain(counts);
            cells.chain([spread(measure.tokens_per_s, amount)]).chain(rest).map(Cell::from).collect()
        };
        rows.push(row("plain", batch.plain, [NOTHING; 4].map(str::to_owned)));
        rows.extend(batch.lookahead.iter().map(|ours| {
            let rest = [
                spread(ours.speed_up, times),
                number(ours.edl, 2),
                number(mean_length(&ours.draft_lengths), 2),
                number(mean_length(&ours.accepted_lengths), 2),
            ];
            row(&ours.policy, ours.measure, rest)
        }));
    }
    Table { columns: columns.map(str::to_owned).to_vec(), texts: 1, rows, has_mean: false }
}

/// The other program beside ours; `None` if there was none.
fn peer_table(results: &Results, policy: Option<&str>) -> Option<Table> {
    let mut modes: Vec<&str> = Vec::new();
    for peer in results.tasks.iter().flat_map(|task| &task.peers) {
        if !modes.contains(&peer.mode.as_str()) {
            modes.push(&peer.mode);
        }
    }
    if modes.is_empty() {
        return None;
    }
    let mut columns = vec!["Task".to_owned()];
    for mode in &modes {
        columns.extend([format!("{mode} tokens/s"), format!("{mode} changed")]);
    }
    columns.extend(["Lookahead tokens/s", "Over its best mode"].map(str::to_owned));

    let mut ratios = Vec::new();
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for task in &results.tasks {
        let mut row = vec![Cell::from(task.task.as_str())];
        for mode in &modes {
            let peer = task.peers.iter().find(|peer| peer.mode == *mode);
            row.push(peer.map_or(NOTHING.into(), |peer| spread(peer.measure.tokens_per_s, amount).into()));
            row.push(peer.map_or(NOTHING.into(), |peer| peer.differing.to_string().into()));
        }
        let settings = [Warmth::Cold, Warmth::Same].into_iter();
        let ours = fastest(settings.filter_map(|warmth| find(task, policy?, warmth)), |ours| {
            ours.measure.tokens_per_s.median
        });
        let peer = fastest(task.peers.iter(), |peer: &&PeerResults| peer.measure.tokens_per_s.median);
        row.push(ours.map_or(NOTHING.into(), |(ours, _)| {
            format!("{} {}", spread(ours.measure.tokens_per_s, amount), ours.warmth.as_str()).into()
        }));
        row.push(ours.zip(peer).map_or(NOTHING.into(), |((_, ours), (peer, theirs))| {
            ratios.push(ours / theirs);
            format!("{} {}", times(ours / theirs), peer.mode).into()
        }));
        rows.push(row);
    }
    let has_mean = rows.len() > 1;
    if has_mean {
        let mut row = vec![Cell::from("mean")];
        row.extend((0..columns.len() - 2).map(|_| Cell::from("")));
        row.push(times(geometric_mean(ratios)).into());
        rows.push(row);
    }
    Some(Table { columns, texts: 1, rows, has_mean })
}

fn curve_table(results: &Results) -> Table {
    let points = plots::relative_curve(results).into_iter();
    let rows = points.map(|(tokens, ms, relative)| {
        [tokens.to_string(), amount(ms), number(relative, 2)].map(Cell::from).into()
    });
    let columns = ["Tokens of the pass, N", "Time, ms", "c(N)"];
    Table { columns: columns.map(str::to_owned).to_vec(), texts: 0, rows: rows.collect(), has_mean: false }
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

/// The item of the greatest speed, with it.
fn fastest<T>(items: impl Iterator<Item = T>, speed: impl Fn(&T) -> f64) -> Option<(T, f64)> {
    let items = items.map(|item| {
        let speed = speed(&item);
        (item, speed)
    });
    items.filter(|(_, speed)| is_positive(*speed)).max_by(|(_, a), (_, b)| a.total_cmp(b))
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// The geometric mean of those `values` that have one; no number if none has.
fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    arithmetic_mean(values.into_iter().filter(|&value| is_positive(value)).map(f64::ln)).exp()
}

/// The mean of those `values` that are numbers; no number if none is.
fn arithmetic_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let numbers = values.into_iter().filter(|value| value.is_finite());
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The mean length of a histogram by length; no number if it is empty.
fn mean_length(counts: &[u64]) -> f64 {
    let steps: f64 = counts.iter().map(|&count| count as f64).sum();
    counts.iter().enumerate().map(|(length, &count)| length as f64 * count as f64).sum::<f64>() / steps
}

fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { NOTHING.to_owned() }
}

/// A ratio.
fn times(value: f64) -> String {
    if is_positive(value) { format!("{value:.2}×") } else { NOTHING.to_owned() }
}

/// A speed or a time, with the three digits or so that are more than noise.
fn amount(value: f64) -> String {
    let decimals = match value {
        _ if !is_positive(value) => return NOTHING.to_owned(),
        1000.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    number(value, decimals)
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { NOTHING.to_owned() }
}

/// The median, and both ends where they differ from it.
fn spread(spread: Spread, format: impl Fn(f64) -> String) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(&format);
    if min == max || median == NOTHING {
        median
    } else {
        format!("{median} ({}–{max})", min.trim_end_matches('×'))
    }
}

/// A count with commas between thousands.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` without characters that no XML document may hold and line breaks, which no name needs.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use lookahead_engine::CostPoint;

    use super::*;
    use crate::results::{BatchResults, OnlinePoint, VERSION};

    const TASKS: [&str; 14] = [
        "specbench_mt_bench",
        "specbench_translation",
        "specbench_summarization",
        "specbench_qa",
        "specbench_math_reasoning",
        "specbench_rag",
        "xquad_rag",
        "humaneval_x",
        "mbpp",
        "code_editing",
        "agent_tool_calls",
        "json_extraction",
        "chat_multi_turn",
        "log_analysis",
    ];
    const POLICIES: [&str; 7] = ["adaptive", "fixed", "4", "8", "16", "16:prompt", "16:output"];

    /// Made-up numbers with the shape of measured ones, the same ones each time.
    fn sample(tasks: &[&str], policies: &[&str]) -> Results {
        let tasks = tasks.iter().zip(0..).map(|(task, place)| {
            let variation = f64::from(place * 7 % 10) / 10.0;
            let around = |median: f64| Spread { median, min: median * 0.97, max: median * 1.02 };
            let measure = |speed| Measure { tokens_per_s: around(speed), ttft_ms: 180.0 + 90.0 * variation };
            let lookahead = policies.iter().zip(0..).flat_map(|(policy, order)| {
                Warmth::ALL.into_iter().zip([0.4, 1.0, 0.6, 0.8]).map(move |(warmth, known)| {
                    let source = if policy.contains(':') { 0.6 } else { 1.0 };
                    let accepted = (0.4 + 2.2 * variation) * known * source * (1.0 + 0.1 * f64::from(order));
                    let speed_up = (1.0 + accepted) / (1.1 + 0.05 * f64::from(order));
                    let steps =
                        |mean: f64| (0..20).map(|n| (1000.0 * (-f64::from(n) / mean).exp()) as u64).collect();
                    let online = |served: usize| {
                        let gain =
                            1.0 - 0.5 / (1.0 + served as f64 / 6.0) + 0.1 * (served as f64 * 1.7).sin();
                        OnlinePoint { served, edl: 1.0 + accepted * gain, speed_up: speed_up * gain }
                    };
                    LookaheadResults {
                        policy: (*policy).to_owned(),
                        warmth,
                        measure: measure(21.3 * speed_up),
                        speed_up: around(speed_up),
                        paired_speed_up: speed_up * 0.99,
                        speed_up_by_curve: speed_up * 1.03,
                        edl: 1.0 + accepted,
                        retrieval_share: 0.0123,
                        draft_lengths: steps(2.0 + 2.0 * f64::from(order)),
                        accepted_lengths: steps(accepted + 0.4),
                        online: (0..20).map(online).filter(|_| warmth == Warmth::Online).collect(),
                    }
                })
            });
            let peer = |mode: &str, speed, differing| PeerResults {
                mode: mode.to_owned(),
                measure: measure(speed),
                differing,
            };
            TaskResults {
                task: (*task).to_owned(),
                prompts: 20,
                warm_up_prompts: 20,
                plain: measure(21.3),
                lookahead: lookahead.collect(),
                peers: vec![peer("plain", 19.8, 0), peer("ngram-simple", 24.0 + 9.0 * variation, 3)],
            }
        });
        let curve = [(1, 47.0), (2, 49.5), (4, 53.1), (8, 66.0), (16, 104.0), (32, 190.2), (64, 371.0)];
        let subject = Subject {
            program: "0.1.0".to_owned(),
            model: "SmolLM2-1.7B-Instruct-Q4_K_M.gguf".to_owned(),
            model_bytes: 1_055_609_536,
            cpu: "AMD EPYC 7B13".to_owned(),
            instruction_set: "AVX2".to_owned(),
            threads: 8,
            kv_type: "f16".to_owned(),
            max_tokens: 256,
            repeats: 3,
            peer: Some("llama.cpp build 9000".to_owned()),
        };
        let tasks: Vec<TaskResults> = tasks.collect();
        let batch = |size| {
            let task = tasks.first()?;
            let lookahead =
                task.lookahead.iter().filter(|ours| ours.warmth == Warmth::Cold).cloned().collect();
            Some(BatchResults { size, batches: 5, plain: task.plain, lookahead })
        };
        Results {
            version: VERSION,
            subject,
            curve: curve.map(|(tokens, ms)| CostPoint { tokens, ms }).to_vec(),
            lossless: Lossless { answers: 23_520, tokens: 4_812_034, differing: 0 },
            batches: [4, 16].into_iter().filter_map(batch).collect(),
            tasks,
        }
    }

    /// What is not well-formed in `xml`, if anything: tags that do not match, and bare `<` and `&`.
    fn fault(xml: &str) -> Option<String> {
        let mut open: Vec<&str> = Vec::new();
        for part in xml.split('<').skip(1) {
            let (tag, text) = part.split_once('>')?;
            let is_entity =
                |text: &str| ["lt;", "gt;", "amp;", "quot;", "apos;"].iter().any(|end| text.starts_with(end));
            if text.contains('>')
                || part.split('&').skip(1).any(|text| !is_entity(text))
                || part.contains('\0')
            {
                return Some(part.to_owned());
            }
            match tag.strip_prefix('/') {
                Some(name) if open.pop() != Some(name) => return Some(part.to_owned()),
                None if !tag.ends_with('/') => open.push(tag.split(' ').next().unwrap_or_default()),
                _ => {}
            }
        }
        (!open.is_empty() || !xml.starts_with("<svg ")).then(|| format!("{open:?} stay open"))
    }

    fn plots(results: &Results) -> Vec<(&'static str, String)> {
        let plots = Document::new(results).blocks.into_iter().filter_map(|block| match block {
            Block::Plot(plot) => Some((plot.name, plot.svg.unwrap())),
            _ => None,
        });
        plots.collect()
    }

    #[test]
    fn cells_are_the_numbers_that_were_measured() {
        let mut results = sample(&["a", "b"], &["adaptive"]);
        for (task, speed_up) in results.tasks.iter_mut().zip([2.0, 8.0]) {
            task.plain.tokens_per_s = Spread { median: 20.0, min: 19.04, max: 21.0 };
            for ours in &mut task.lookahead {
                ours.speed_up = Spread { median: speed_up, min: speed_up - 0.5, max: speed_up };
                ours.measure.tokens_per_s = Spread::of(vec![20.0 * speed_up]);
                ours.edl = speed_up;
                ours.draft_lengths = vec![1, 0, 3];
            }
            task.peers[1].measure.tokens_per_s = Spread::of(vec![10.0 * speed_up]);
        }
        results.tasks[0].peers[1].differing = 1;
        let text = markdown(&results);
        for line in [
            "> **Lossless: 23,520 answers, 4,812,034 tokens: all equal to plain decoding.**",
            "| a | 20 | 20.0 (19.0–21.0) | 2.00× (1.50–2.00×) | 2.00× (1.50–2.00×)",
            "| **mean** | **40** | **20.0** | **4.00×** | **4.00×** | **4.00×** | **4.00×** | **4.00** |",
            "| a | adaptive | cold | 40.0 | 2.00× (1.50–2.00×) |",
            "| 2.00 | 1.50 |",
            "| 1.2 % |",
            "| 40.0 same | 2.00× ngram-simple |",
            "| **2.00×** |",
            "| 8 | 66.0 | 1.40 |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn answers_that_differ_are_told_before_all_else() {
        let mut results = sample(&["a"], &["adaptive"]);
        results.lossless.differing = 3;
        let expected = "NOT LOSSLESS: 3 of 23,520 answers (4,812,034 tokens) differ from plain decoding.";
        let text = markdown(&results);
        assert!(text.lines().nth(4).is_some_and(|line| line == format!("> **{expected}**")), "{text}");
        assert!(html(&results).contains(&format!("<p class=\"verdict fails\">{expected}</p>")));
    }

    #[test]
    fn names_from_outside_are_text_everywhere() {
        let name = "<script>|x";
        let mut results = sample(&[name, "b"], &["adaptive", name]);
        results.subject.model = name.to_owned();
        results.subject.peer = Some(name.to_owned());
        results.tasks[0].peers[0].mode = name.to_owned();
        let (page, text) = (html(&results), markdown(&results));
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;|x"), "{page}");
        assert!(!text.contains("<script") && text.contains("| &lt;script&gt;\\|x |"), "{text}");
        assert!(
            !page.contains("http") || page.matches("http").count() == page.matches("xmlns=\"http").count()
        );
    }

    #[test]
    fn pictures_are_well_formed_whatever_was_measured() {
        let long: Vec<String> =
            (0..30).map(|n| format!("<&\"'>\0_a_task_with_a_very_long_name_{n:04}_")).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let mut cases = vec![
            sample(&TASKS, &POLICIES),
            sample(&TASKS[..2], &POLICIES[..1]),
            sample(&TASKS[..1], &POLICIES),
            sample(&long, &POLICIES),
            sample(&[], &[]),
            sample(&TASKS, &[]),
        ];
        for value in [0.0, f64::NAN, f64::INFINITY, -1.0, f64::MAX, f64::MIN_POSITIVE] {
            let mut results = sample(&TASKS[..3], &POLICIES);
            let spread = Spread { median: value, min: value, max: value };
            results.curve = vec![CostPoint { tokens: 1, ms: value }];
            results.tasks[1].plain = Measure { tokens_per_s: spread, ttft_ms: value };
            results.tasks[1].peers.clear();
            results.tasks[2].lookahead.retain(|ours| ours.warmth == Warmth::Other);
            for ours in results.tasks[1].lookahead.iter_mut() {
                (ours.speed_up, ours.measure.tokens_per_s) = (spread, spread);
                (ours.edl, ours.paired_speed_up, ours.retrieval_share) = (value, value, value);
                (ours.draft_lengths, ours.accepted_lengths) = (vec![u64::MAX; 300], Vec::new());
                ours.online.truncate(1);
                ours.online.iter_mut().for_each(|point| (point.edl, point.speed_up) = (value, value));
            }
            cases.push(results.clone());
            results.tasks.swap_remove(0);
            cases.push(results.clone());
            results.tasks.swap_remove(0);
            cases.push(results);
        }
        for results in cases {
            for (name, svg) in plots(&results) {
                assert_eq!(fault(&svg), None, "{name}");
            }
            let text = markdown(&results) + &html(&results);
            assert!(!text.contains("NaN") && !text.contains("inf×"), "{text}");
        }
        let names: Vec<&str> = plots(&sample(&TASKS, &POLICIES)).iter().map(|plot| plot.0).collect();
        assert_eq!(names, ["speed-up", "draft-length", "source", "accepted-length", "online", "cost-curve"]);
        assert_eq!(plots(&sample(&[], &[])).len(), 1, "the cost curve needs no task");
    }

    #[test]
    fn all_files_are_written_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("report");
        write(&sample(&TASKS[..3], &POLICIES), &directory).unwrap();
        let results = sample(&TASKS[..2], &POLICIES);
        write(&results, &directory).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&read("results.json")).unwrap(), results);
        assert_eq!((read("report.md"), read("report.html")), (markdown(&results), html(&results)));
        for (name, svg) in plots(&results) {
            assert_eq!(read(&format!("plots/{name}.svg")), svg);
            assert!(markdown(&results).contains(&format!("(plots/{name}.svg)")));
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 4, "nothing else is left behind");
    }

    #[test]
    #[ignore = "writes pictures to look at"]
    fn samples_to_look_at() {
        let directory = std::env::temp_dir().join("report-sample");
        write(&sample(&TASKS, &POLICIES), &directory.join("fourteen")).unwrap();
        write(&sample(&TASKS[..2], &POLICIES[..1]), &directory.join("two")).unwrap();
        write(&sample(&TASKS[..7], &POLICIES), &directory.join("seven")).unwrap();
        let long: Vec<String> =
            (0..30).map(|n| format!("a_task_with_a_very_long_name_number_{n:04}")).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let mut thirty = sample(&long, &POLICIES);
        thirty.lossless.differing = 3;
        write(&thirty, &directory.join("thirty")).unwrap();
    }
}
