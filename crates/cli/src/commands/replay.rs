//! `lookahead replay`: draft engines compared on recorded answers, without a model.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use clap::builder::PossibleValuesParser;
use lookahead_engine::{CostCurve, CostPoint, spellings};
use lookahead_model::OpenModel;
use lookahead_replay::{DRAFTERS, Experiment, Fleet, FleetOutcome, FleetSharing, Outcome, Stream, Target};
use serde::Deserialize;
use serde_json::json;

use crate::store::pull::resolve_model;
use crate::{output, progress};

/// The pass of SmolLM2 135M Q4_1 on two cores with AVX-512 behind 256 tokens (docs/performance.md).
const DEFAULT_CURVE: [(usize, f64); 5] = [(1, 2.76), (4, 4.25), (8, 6.98), (16, 11.9), (64, 41.0)];

const HELP: &str = "\
Examples:
  lookahead generate --prompt \"Tell me a joke\" --record jokes.jsonl --record-task jokes
      Record an answer; each call adds one
  lookahead replay jokes.jsonl
      Half of the answers are played, the other half teaches the draft engines
  lookahead calibrate --json > curve.json && lookahead replay jokes.jsonl --curve curve.json --budgets 4,8
      The speed-up on this machine, for two sizes of the draft tree
  lookahead replay today.jsonl --warmup yesterday.jsonl --drafters lookahead,suffix --json
      Answers of another day as warm-up; one JSON object
  lookahead replay today.jsonl --replicas 1,4,16 --share none,snapshot:64 --drafters lookahead --budgets 8
      What a fleet loses by learning apart, and what snapshots that are 64 requests apart win back

A stream is a line with `prompt_ids` and `output_ids` (token ids), and optionally `task` and `runners_up` (for each token
of the answer the likeliest tokens in its place).

Each row is a task, a draft engine, what it has learned (cold: nothing; same: the warm-up of this task; other: that of the
other tasks) and N, the most nodes of a pass with the root. Columns: EDL, tokens per pass; hit, passes with an accepted
draft; drafted and accepted tokens a pass; the time of a draft and of learning a pass's tokens, middle and 99th percentile
in microseconds; memory; and how many times faster than plain decoding that is under the cost curve, which leaves the time
of the draft out. The rows without a task are means over all tasks.

Fields of --json: `results` (a row each: `task`, `drafter`, `warm`, `budget`, `requests`, `edl`, `hit_rate`, `drafted`,
`accepted`, `retrieval_us` and `insertion_us` with `p50` and `p99`, `bytes`, `speed_up`, and `reliability`: how true the
estimates were, by ranges of depth, with the least `depth` of each, the tokens `drafted` there behind accepted ones, how
many of them were `expected` to be accepted, and how many were `accepted`), `means` (the same over all tasks), `curve`
(`tokens` and `ms` each).

With --replicas: the answers are requests in their order, dealt to the replicas in turn. A replica learns from its own as
soon as they are answered, and from all others' at each snapshot. Columns: EDL of all requests and of the last quarter;
hit; the memory of the largest replica; speed-up. Fields of --json: `fleets` (`drafter`, `share`, `replicas`, `budget`,
`requests`, `edl`, `edl_late`, `hit_rate`, `bytes`, `speed_up`), `curve`.";

/// Compare draft engines on recorded answers, without a model
///
/// Plays each answer as decoding would: draft, accept what the answer confirms, learn it, go on. Says how many tokens a
/// pass yields, and what that is worth under a cost curve.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ReplayArgs {
    /// The recorded answers: JSON lines
    #[arg(value_name = "STREAMS.jsonl", help_heading = "Answers")]
    streams: PathBuf,

    /// Recorded answers to learn from; may be given several times [default: every second of STREAMS, which is then not
    /// played]
    #[arg(long, value_name = "STREAMS.jsonl", help_heading = "Answers")]
    warmup: Vec<PathBuf>,

    /// Play N answers of each task, at most
    #[arg(long, value_name = "N", help_heading = "Answers")]
    limit: Option<NonZeroUsize>,

    /// Spread the answers over so many replicas of a service
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Fleet")]
    replicas: Vec<NonZeroUsize>,

    /// How replicas learn from each other: `none`, or `snapshot:K`, each time that they have answered K requests together
    #[arg(long, value_name = "none|snapshot:K,…", value_delimiter = ',', help_heading = "Fleet",
          requires = "replicas", default_values = ["none", "snapshot:64"])]
    share: Vec<FleetSharing>,

    /// The model of the answers, as `lookahead generate` takes it: its tokenizer says which tokens are one word with a space
    /// before it and without, which Lookahead's drafts know when they serve a model
    #[arg(long, value_name = "MODEL", help_heading = "Answers")]
    tokenizer_of: Option<String>,

    /// The draft engines
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', help_heading = "Lookahead",
          default_values = ["lookahead", "paper", "pld", "suffix:chain", "suffix:tree"],
          value_parser = PossibleValuesParser::new(DRAFTERS.map(|(name, _)| name)))]
    drafters: Vec<String>,

    /// Nodes of a pass, the root included, at most
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Lookahead",
          default_values = ["2", "4", "8", "16", "32", "64"])]
    budgets: Vec<NonZeroUsize>,

    /// What a pass costs: what `lookahead calibrate --json` printed, or a list of its points; `default` is that of a
    /// small model on two cores
    #[arg(long, value_name = "FILE|default", default_value = "default", help_heading = "Lookahead")]
    curve: PathBuf,

    /// Print one JSON object instead of a table
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let spellings = arguments.tokenizer_of.as_deref().map(|model| -> anyhow::Result<_> {
        let tokenizer = OpenModel::open(resolve_model(model)?)?.tokenizer()?;
        Ok(spellings(&tokenizer))
    });
    let target = Target { curve: read_curve(&arguments.curve)?, spellings: spellings.transpose()? };
    let streams = Stream::read_file(&arguments.streams)?;
    let mut warm_up = Vec::new();
    for path in &arguments.warmup {
        warm_up.extend(Stream::read_file(path)?);
    }
    let limit = arguments.limit.map(NonZeroUsize::get);
    let budgets = arguments.budgets.iter().map(|budget| budget.get()).collect();
    if !arguments.replicas.is_empty() {
        let fleet = Fleet {
            streams: limited(streams, limit),
            warm_up,
            drafters: arguments.drafters.clone(),
            replicas: arguments.replicas.clone(),
            sharing: arguments.share.clone(),
            budgets,
        };
        return run_fleet(&fleet, &target, arguments.json);
    }
    let experiment = Experiment::new(streams, warm_up, limit, &arguments.drafters, budgets)?;

    let bar = progress::steps(experiment.plays() as u64);
    bar.set_message("Replaying");
    let outcomes = experiment.run(&target, || bar.inc(1));
    bar.finish_and_clear();

    let mut stdout = output::stdout();
    if arguments.json {
        let (results, means): (Vec<_>, Vec<_>) = outcomes.iter().partition(|row| row.task.is_some());
        writeln!(stdout, "{:#}", json!({ "results": results, "means": means, "curve": target.curve }))?;
    } else {
        write_table(&mut stdout, &outcomes)?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// At most `limit` streams of each task.
fn limited(streams: Vec<Stream>, limit: Option<usize>) -> Vec<Stream> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let is_within = |stream: &Stream| {
        let count = counts.entry(stream.task.clone()).or_default();
        *count += 1;
        limit.is_none_or(|limit| *count <= limit)
    };
    streams.into_iter().filter(is_within).collect()
}

fn run_fleet(fleet: &Fleet, target: &Target, as_json: bool) -> anyhow::Result<ExitCode> {
    let bar = progress::steps(fleet.plays() as u64);
    bar.set_message("Replaying");
    let outcomes = fleet.run(target, || bar.inc(1))?;
    bar.finish_and_clear();

    let mut stdout = output::stdout();
    if as_json {
        writeln!(stdout, "{:#}", json!({ "fleets": outcomes, "curve": target.curve }))?;
    } else {
        write_aligned(&mut stdout, FLEET_COLUMNS, outcomes.iter().map(fleet_cells), FLEET_WORDS)?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

const FLEET_COLUMNS: [&str; 9] =
    ["drafter", "share", "replicas", "N", "EDL", "late EDL", "hit", "MiB", "speed-up"];

/// Columns of words in the table of fleets.
const FLEET_WORDS: usize = 2;

fn fleet_cells(row: &FleetOutcome) -> [String; FLEET_COLUMNS.len()] {
    [
        row.drafter.to_owned(),
        row.share.to_string(),
        row.replicas.to_string(),
        row.budget.to_string(),
        format!("{:.2}", row.edl),
        format!("{:.2}", row.edl_late),
        format!("{:.0}%", 100.0 * row.hit_rate),
        format!("{:.1}", row.bytes as f64 / f64::from(1 << 20)),
        format!("{:.2}", row.speed_up),
    ]
}

/// What a file with a cost curve holds.
#[derive(Deserialize)]
#[serde(untagged)]
enum CurveFile {
    Calibration { points: Vec<CostPoint> },
    Points(Vec<CostPoint>),
}

fn read_curve(path: &Path) -> anyhow::Result<CostCurve> {
    let points = if path.as_os_str() == "default" {
        DEFAULT_CURVE.map(|(tokens, ms)| CostPoint { tokens, ms }).to_vec()
    } else {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read the cost curve {name}"))?;
        match serde_json::from_str(&text) {
            Ok(CurveFile::Calibration { points } | CurveFile::Points(points)) => points,
            Err(error) => anyhow::bail!(
                "{name} is no cost curve ({error})\n`lookahead calibrate --json > {name}` makes one"
            ),
        }
    };
    CostCurve::new(points).with_context(|| format!("{} is no cost curve", path.display()))
}

const COLUMNS: [&str; 14] = [
    "task", "drafter", "warm", "N", "EDL", "hit", "drafted", "accepted", "draft us", "p99", "learn us",
    "p99", "MiB", "speed-up",
];

/// Columns of words; those behind them are numbers.
const WORDS: usize = 3;

fn write_table(out: &mut impl Write, outcomes: &[Outcome]) -> io::Result<()> {
    write_aligned(out, COLUMNS, outcomes.iter().map(cells), WORDS)
}

/// Writes a table whose first `words` columns are words and the others numbers; a blank line wherever the words change.
fn write_aligned<const N: usize>(
    out: &mut impl Write,
    columns: [&str; N],
    cells: impl Iterator<Item = [String; N]>,
    words: usize,
) -> io::Result<()> {
    let mut rows = vec![columns.map(str::to_owned)];
    rows.extend(cells);
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut group = None;
    for (index, row) in rows.iter().enumerate() {
        let here = (index > 0).then(|| &row[..words]);
        if here.is_some() && group.is_some_and(|group| Some(group) != here) {
            writeln!(out)?;
        }
        group = here;
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn cells(row: &Outcome) -> [String; COLUMNS.len()] {
    [
        row.task.clone().unwrap_or_else(|| "(mean)".to_owned()),
        row.drafter.to_owned(),
        row.warm.as_str().to_owned(),
        row.budget.to_string(),
        format!("{:.2}", row.edl),
        format!("{:.0}%", 100.0 * row.hit_rate),
        format!("{:.2}", row.drafted),
        format!("{:.2}", row.accepted),
        format!("{:.1}", row.retrieval_us.p50),
        format!("{:.1}", row.retrieval_us.p99),
        format!("{:.1}", row.insertion_us.p50),
        format!("{:.1}", row.insertion_us.p99),
        format!("{:.1}", row.bytes as f64 / f64::from(1 << 20)),
        format!("{:.2}", row.speed_up),
    ]
}

#[cfg(test)]
mod tests {
    use lookahead_replay::{Quantiles, ReliabilityByDepth, Warmth};

    use super::*;

    #[test]
    fn a_table_is_aligned_and_its_groups_stand_apart() {
        let row = |task: Option<&str>, budget| Outcome {
            task: task.map(str::to_owned),
            drafter: "pld",
            warm: Warmth::Cold,
            budget,
            requests: 1,
            edl: 1.5,
            hit_rate: 0.4,
            drafted: 2.0,
            accepted: 0.5,
            retrieval_us: Quantiles { p50: 1.0, p99: 20.0 },
            insertion_us: Quantiles { p50: 0.1, p99: 0.2 },
            bytes: 3 << 20,
            speed_up: 1.25,
            reliability: ReliabilityByDepth::default(),
        };
        let mut table = Vec::new();
        write_table(&mut table, &[row(Some("a"), 2), row(Some("a"), 16), row(None, 2)]).unwrap();
        let expected = "\
task    drafter  warm   N   EDL  hit  drafted  accepted  draft us   p99  learn us  p99  MiB  speed-up
a       pld      cold   2  1.50  40%     2.00      0.50       1.0  20.0       0.1  0.2  3.0      1.25
a       pld      cold  16  1.50  40%     2.00      0.50       1.0  20.0       0.1  0.2  3.0      1.25

(mean)  pld      cold   2  1.50  40%     2.00      0.50       1.0  20.0       0.1  0.2  3.0      1.25
";
        assert_eq!(String::from_utf8(table).unwrap(), expected);
    }

    #[test]
    fn a_curve_is_a_list_of_points_or_what_calibrate_prints() {
        let directory = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = directory.path().join("curve.json");
            fs::write(&path, text).unwrap();
            read_curve(&path)
        };
        let points = r#"[{"tokens": 1, "ms": 2.0}, {"tokens": 8, "ms": 3.0}]"#;
        let curve = read(points).unwrap();
        assert_eq!(curve.relative(8), 1.5);
        assert_eq!(read(&format!("{{\"model\": \"m\", \"points\": {points}}}")).unwrap(), curve);
        assert_eq!(read_curve(Path::new("default")).unwrap().relative(1), 1.0);
        for damaged in ["", "[]", "{}", r#"[{"tokens": 1, "ms": -2.0}]"#] {
            let error = format!("{:#}", read(damaged).unwrap_err());
            assert!(error.contains("curve.json is no cost curve"), "{error}");
        }
    }
}
