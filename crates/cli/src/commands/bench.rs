//! `lookahead bench`: what lookahead is worth on the user's machine, model and prompts.

mod suite;

use std::fs;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use lookahead_bench::{
    Bench, Identity, Journal, Peer, PeerPlan, Plan, Policy, Results, Subject, Task, Warmth, report,
};
use lookahead_engine::{CostCurve, Engine, EngineOptions, measure_cost_curve, spellings};

use crate::arguments::LoadArgs;
use crate::calibration::{self, BUDGET, CONTEXT, cpu_model};
use crate::loaded_model::{LoadedModel, weight_file_bytes};
use crate::{interrupt, output, progress};

const HELP: &str = "\
Examples:
  lookahead bench
      The default model on the prompts that come with the program: twelve tasks, some minutes
  lookahead bench --model qwen2.5-coder-0.5b --suite prompts.jsonl --out report
      Another model, on your own prompts; open report/report.html
  lookahead bench --suite prompts/ --limit 10 --against llama.cpp=/usr/local/bin/llama-server
      Ten prompts of each task in a folder, and llama.cpp on the same model, threads and prompts, in each of its modes
  lookahead bench --batch 2,4,8 --warmth cold
      Several prompts at once, too
  lookahead bench --policies adaptive,4x4,8x8,16x8,8x8:single,8x8:prompt --warmth cold,same
      Draft policies compared: draft length x branch length, shape of the tree, what is drafted from

A suite is JSON lines with `prompt` (text) or `messages` (a list of role and content), and optionally `id`, `mode`
(`completion` for text that is continued without the chat template) and `task` (otherwise the file's name). Where messages
of the user follow each other, they are turns of a conversation: each is asked with the model's own answers before it, and
counts as a prompt. Of each task the first, third, … prompt or conversation is measured, and the answers to the others
teach, unless --warmup names prompts for that.

Plain decoding and lookahead alternate on each prompt in one process, and every answer is compared, token by token.
Warmth: cold knows nothing; same has served the other prompts of the task; other those of the other tasks; online the
prompts of the task that were measured before it.

The folder of --out gets results.json, report.md, report.html (which needs no other file) and plots/. runs.jsonl keeps what
was measured: the same command goes on where it was interrupted. Ctrl-C ends early with a report of what there is.

Exit code: 0 if every answer equals plain decoding, 1 if one does not, 130 if it was interrupted.";

/// Measure lookahead against plain decoding, and against llama.cpp, on your prompts
///
/// Writes a report with speed-ups by task, what the drafts are worth, and the proof that no token differs.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct BenchArgs {
    /// The prompts: files of JSON lines, or folders of them [default: those that come with the program]
    #[arg(long, value_name = "FILE.jsonl|FOLDER", num_args = 1.., help_heading = "Prompts")]
    suite: Vec<PathBuf>,

    /// Prompts whose answers teach; then all prompts of the suite are measured
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., help_heading = "Prompts")]
    warmup: Vec<PathBuf>,

    /// Measure N prompts of each task, and learn from as many, at most
    #[arg(long, value_name = "N", help_heading = "Prompts")]
    limit: Option<NonZeroUsize>,

    #[command(flatten)]
    load: LoadArgs,

    /// Draft policies: `adaptive`, `fixed`, or a draft length and a branch length such as `8x4`; behind it `:single`,
    /// `:parallel`, `:prompt`, `:output`, `:runners-up` or `:p=0.1`
    #[arg(long, value_name = "POLICY,…", value_delimiter = ',', default_value = "adaptive", help_heading = "Lookahead",
          value_parser = |name: &str| Policy::from_str(name))]
    policies: Vec<Policy>,

    /// What lookahead has learned before a prompt
    #[arg(long, value_name = "WARMTH,…", value_delimiter = ',', help_heading = "Lookahead",
          default_values = ["cold", "same", "other", "online"])]
    warmth: Vec<WarmthName>,

    /// Also decode so many prompts at once, one number after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = "Measurement")]
    batch: Vec<NonZeroUsize>,

    /// Measure another program too: `llama.cpp=` and the path of its llama-server
    #[arg(long, value_name = "PROGRAM=PATH", help_heading = "Another program",
          value_parser = |text: &str| parse_against(text))]
    against: Option<PathBuf>,

    /// Of each task, give it N prompts, at most
    #[arg(long, value_name = "N", default_value = "5", help_heading = "Another program")]
    against_limit: NonZeroUsize,

    /// Stop each answer after this many tokens
    #[arg(short = 'n', long, value_name = "N", default_value = "128", help_heading = "Measurement")]
    max_tokens: NonZeroUsize,

    /// Measure each prompt so often in each setting
    #[arg(long, value_name = "N", default_value = "3", help_heading = "Measurement")]
    repeats: NonZeroUsize,

    /// The folder of the report [default: bench- and the model's name]
    #[arg(short, long, value_name = "FOLDER", help_heading = "Output")]
    out: Option<PathBuf>,
}

/// [`Warmth`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WarmthName {
    /// Nothing
    Cold,
    /// Answers of the same task
    Same,
    /// Answers of the other tasks
    Other,
    /// Answers to the prompts before
    Online,
}

impl From<WarmthName> for Warmth {
    fn from(name: WarmthName) -> Self {
        match name {
            WarmthName::Cold => Self::Cold,
            WarmthName::Same => Self::Same,
            WarmthName::Other => Self::Other,
            WarmthName::Online => Self::Online,
        }
    }
}

fn parse_against(text: &str) -> Result<PathBuf, String> {
    match text.split_once('=') {
        Some(("llama.cpp", path)) if !path.is_empty() => Ok(path.into()),
        _ => Err("must be llama.cpp=PATH, with the path of a llama-server".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &BenchArgs) -> anyhow::Result<ExitCode> {
    let limit = arguments.limit.map_or(usize::MAX, NonZeroUsize::get);
    let prompts = suite::read(&arguments.suite, &arguments.warmup)?;
    // Before minutes of work: whether the other program is there.
    let peer = arguments.against.as_deref().map(Peer::version).transpose()?;
    let mut loaded = arguments.load.load()?;
    let tasks = suite::encode(prompts, &loaded, limit)?;
    let plan = plan(arguments, &loaded, tasks);

    let out = arguments.out.clone().unwrap_or_else(|| default_out(&loaded.path));
    fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let identity =
        Identity { subject: subject(arguments, &loaded, peer)?, suite: suite::fingerprint(&plan.tasks) };
    let mut journal = Journal::open(&out.join("runs.jsonl"), identity, || -> anyhow::Result<CostCurve> {
        let spinner = progress::spinner("Measuring what a pass costs");
        let tokens = calibration::tokens(&loaded.model);
        let curve = measure_cost_curve(&mut loaded.model, CONTEXT, tokens, BUDGET, |_| ());
        spinner.finish_and_clear();
        Ok(curve?)
    })?;
    let is_whole = measure(loaded, &plan, &mut journal)?;

    let results = Results::new(&journal, &plan);
    report::write(&results, &out).with_context(|| format!("cannot write the report to {}", out.display()))?;
    let mut stdout = output::stdout();
    write!(stdout, "{}", report::summary(&results))?;
    writeln!(stdout, "\nThe report: {}", out.join("report.html").display())?;
    stdout.flush()?;
    if !is_whole {
        progress::note("Interrupted: the same command goes on from here");
    }
    Ok(match (is_whole, results.lossless.differing) {
        (_, differing) if differing > 0 => ExitCode::FAILURE,
        (false, _) => ExitCode::from(interrupt::EXIT_CODE),
        (true, _) => ExitCode::SUCCESS,
    })
}

/// Does what is missing in the journal; says whether that was all.
fn measure(loaded: LoadedModel, plan: &Plan, journal: &mut Journal) -> anyhow::Result<bool> {
    let (cancelled, _interrupt) = interrupt::raise_on_interrupt();
    let engine = Engine::new(loaded.model, EngineOptions::default());
    let bar = progress::steps(plan.generations() as u64);
    let mut begun = 0;
    let mut bench = Bench::new(engine, plan, journal, Arc::clone(&cancelled));
    let is_whole = bench.run(|what| {
        bar.set_position(begun);
        bar.set_message(what.to_owned());
        begun += 1;
    });
    bar.finish_and_clear();
    Ok(is_whole? && !cancelled.load(Ordering::Relaxed))
}

fn plan(arguments: &BenchArgs, loaded: &LoadedModel, tasks: Vec<Task>) -> Plan {
    Plan {
        tasks,
        policies: arguments.policies.clone(),
        warmths: arguments.warmth.iter().map(|&name| name.into()).collect(),
        repeats: arguments.repeats.get(),
        batch_sizes: arguments.batch.iter().map(|size| size.get()).collect(),
        max_tokens: arguments.max_tokens.get(),
        end_tokens: loaded.tokenizer().end_of_generation().to_vec(),
        spellings: Some(spellings(loaded.tokenizer())),
        peer: arguments.against.as_ref().map(|server| PeerPlan {
            server: server.clone(),
            model: loaded.path.clone(),
            threads: arguments.load.threads.threads.get(),
            limit: arguments.against_limit.get(),
        }),
    }
}

fn subject(arguments: &BenchArgs, loaded: &LoadedModel, peer: Option<String>) -> anyhow::Result<Subject> {
    let kernels = loaded.model.kernels();
    let model_bytes =
        weight_file_bytes(&loaded.path).with_context(|| format!("cannot read {}", loaded.path.display()))?;
    Ok(Subject {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        model: loaded.file_name(),
        model_bytes,
        cpu: cpu_model(),
        gpu: loaded.model.gpu(),
        instruction_set: kernels.isa().name().to_owned(),
        threads: kernels.threads(),
        kv_type: loaded.model.kv_type().to_string(),
        max_tokens: arguments.max_tokens.get(),
        repeats: arguments.repeats.get(),
        peer,
    })
}

fn default_out(model: &Path) -> PathBuf {
    format!("bench-{}", model.file_stem().unwrap_or_default().display()).into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: BenchArgs,
    }

    #[test]
    fn policies_and_warmths_are_lists() {
        let parse = |line: &str| Line::try_parse_from(std::iter::once("bench").chain(line.split(' ')));
        let arguments = parse("--policies adaptive,8x4:single --warmth cold,same").unwrap().arguments;
        assert_eq!(arguments.policies.len(), 2);
        assert_eq!(arguments.warmth, [WarmthName::Cold, WarmthName::Same]);
        let error = parse("--policies best").unwrap_err().to_string();
        assert!(error.contains("`best` is no draft policy"), "{error}");
        for against in ["vllm=x", "llama.cpp", "llama.cpp="] {
            let error = parse(&format!("--against {against}")).unwrap_err().to_string();
            assert!(error.contains("llama.cpp=PATH"), "{error}");
        }
        let against = parse("--against llama.cpp=a=b/llama-server").unwrap().arguments.against;
        assert_eq!(against.unwrap(), Path::new("a=b/llama-server"));
    }
}
