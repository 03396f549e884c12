//! `lookahead verify`: proof that lookahead changes nothing, on the user's own prompts and machine.

mod case;
mod comparison;
mod plan;
mod report;
mod runner;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use lookahead_kernels::Kernels;
use lookahead_model::{DeviceModel, PromptEncoder, TokenId};

use self::case::Case;
use self::plan::{Candidate, Settings};
use self::report::{Report, Subject};
use self::runner::Runner;
use crate::arguments::{ModelArgs, PrecisionArgs, SamplingArgs, available_threads, threads};
use crate::loaded_model::{LoadedModel, load_weights};
use crate::{interrupt, output, progress};

const HELP: &str = "\
Examples:
  lookahead verify --prompts prompts.jsonl
      Compare lookahead with plain decoding on every prompt of a file
  lookahead verify --prompts *.jsonl --limit 20 --temperature 0.8 --seed 1
      The same for sampling, on 20 prompts taken evenly from several files
  lookahead verify --prompts prompts.jsonl --adversarial --threads 1,2,8
      Draft trees that are wrong on purpose, with three numbers of threads
  lookahead verify --model ./checkpoint --ids ids.json
      Token ids in place of text, for a model without a tokenizer: no token ends an answer then

Prompt files have one JSON object a line, with `prompt` (text) or `messages` (a list of role and content), and
optionally `id`, `task`, `reference`, `mode` (`completion` for text that is continued without the chat template).

What is compared: the tokens, why the answer ended, and every bit of the logits that chose each token. Each prompt
is decoded with every kind of draft; numbers of threads and sizes of prefill chunks take turns, so that every kind
meets every combination after a few prompts. Ctrl-C ends early with a report of what was compared so far.

Exit code: 0 if nothing differs, 1 if something does, 130 if it was interrupted before anything did.";

/// Check that lookahead yields the tokens and logits of plain decoding, bit for bit
///
/// Every prompt is decoded plainly once, and then with lookahead under several draft policies, numbers of
/// threads and sizes of prefill chunks. All differences must be 0.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct VerifyArgs {
    /// The prompts: JSON lines; one file or several
    #[arg(long, value_name = "FILE.jsonl", required_unless_present = "ids", num_args = 1.., help_heading = "Prompt")]
    pub(crate) prompts: Vec<PathBuf>,

    /// Prompts of token ids: a JSON array in each file; the model needs no tokenizer
    #[arg(long, value_name = "FILE.json", conflicts_with = "prompts", num_args = 1.., help_heading = "Prompt")]
    pub(crate) ids: Vec<PathBuf>,

    /// Use N prompts in all, taken evenly from the files and the tasks in them
    #[arg(long, value_name = "N", help_heading = "Prompt")]
    pub(crate) limit: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) model: ModelArgs,

    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,

    /// Numbers of threads to compare; plain decoding runs on the first
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', help_heading = "Model",
          default_values_t = thread_counts(available_threads()), value_parser = threads)]
    pub(crate) threads: Vec<NonZeroUsize>,

    /// Also compare the portable kernels, a few tokens only: they are slow
    #[arg(long, help_heading = "Model")]
    pub(crate) kernels: bool,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    /// Also draft random trees and near misses, the hardest case
    #[arg(long, help_heading = "Lookahead")]
    pub(crate) adversarial: bool,

    /// Decode this many tokens of each prompt
    #[arg(short = 'n', long, value_name = "N", default_value = "64", help_heading = "Output")]
    pub(crate) max_tokens: NonZeroUsize,

    /// Print one JSON object instead of a report
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// One thread, and all there are.
fn thread_counts(available: NonZeroUsize) -> Vec<NonZeroUsize> {
    let mut counts = vec![NonZeroUsize::MIN, available];
    counts.dedup();
    counts
}

/// Runs the command.
pub(crate) fn run(arguments: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let threads: Vec<usize> = arguments.threads.iter().map(|count| count.get()).collect();
    let (verified, prompts) = load(arguments, Kernels::new(threads[0]))?;
    let tokenizer = verified.prompts.as_ref().map(|prompts| prompts.tokenizer().as_ref());
    let sampling = arguments.sampling.params();
    let (cases, too_long) = case::prepare(prompts, &verified.model, arguments.max_tokens.get())?;

    let (cancelled, _interrupt) = interrupt::raise_on_interrupt();
    let settings = Settings::new(threads);
    let mut report = Report::new(Subject {
        model: verified.path.clone(),
        sampling: sampling.clone(),
        settings: settings.to_string(),
        too_long,
    });
    let runner = Runner::new(&verified.model, tokenizer, sampling, Arc::clone(&cancelled));
    let plain = plan::plain()?;
    let candidates = plan::candidates(arguments.adversarial)?;
    let scalar = if arguments.kernels { plan::scalar_candidate()? } else { Vec::new() };
    let short = cases.first().filter(|_| !scalar.is_empty()).map(Case::shortened);

    let began = Instant::now();
    let runs = cases.len() * (1 + candidates.len()) + short.iter().len() * (1 + scalar.len());
    let bar = progress::steps(runs as u64);
    let mut verification = Verification { runner, settings, plain, report: &mut report, bar };
    let work = cases.iter().enumerate().map(|(number, case)| (number, case, &candidates));
    let mut work = work.chain(short.iter().map(|short| (0, short, &scalar)));
    while !cancelled.load(Ordering::Relaxed)
        && let Some((number, case, candidates)) = work.next()
    {
        verification.verify(case, number, candidates).with_context(|| format!("prompt {}", case.id))?;
    }
    verification.bar.finish_and_clear();
    report.finish(began.elapsed(), cancelled.load(Ordering::Relaxed));

    let mut stdout = output::stdout();
    if arguments.json {
        writeln!(stdout, "{:#}", report.to_json(tokenizer))?;
    } else {
        report.write(&mut stdout, tokenizer)?;
    }
    stdout.flush()?;
    Ok(report.verdict())
}

/// A prompt's name and its tokens.
type EncodedPrompt = (String, Vec<TokenId>);

/// What is verified.
struct Verified {
    model: DeviceModel,
    path: PathBuf,
    /// None where the prompts are token ids.
    prompts: Option<Arc<PromptEncoder>>,
}

/// Loads the model, and turns the prompts into tokens. Prompts that cannot be read are refused before the model is loaded.
fn load(arguments: &VerifyArgs, kernels: Kernels) -> anyhow::Result<(Verified, Vec<EncodedPrompt>)> {
    let VerifyArgs { model: ModelArgs { model }, precision, .. } = arguments;
    let limit = arguments.limit.map(NonZeroUsize::get);
    if !arguments.ids.is_empty() {
        let prompts = case::read_token_ids(&arguments.ids, limit)?;
        let (model, path) = load_weights(model, kernels, precision)?;
        return Ok((Verified { model, path, prompts: None }, prompts));
    }
    let prompts = case::select(&arguments.prompts, limit)?;
    let loaded = LoadedModel::load(model, kernels, precision)?;
    let prompts = case::encode(prompts, &loaded)?;
    Ok((Verified { model: loaded.model, path: loaded.path, prompts: Some(loaded.prompts) }, prompts))
}

/// The work in progress.
struct Verification<'a> {
    runner: Runner<'a>,
    settings: Settings,
    plain: Candidate,
    report: &'a mut Report,
    bar: ProgressBar,
}

impl Verification<'_> {
    /// Decodes case `number` plainly and with every candidate, and compares. Returns early once cancelled.
    fn verify(&mut self, case: &Case, number: usize, candidates: &[Candidate]) -> anyhow::Result<()> {
        self.bar.set_message(case.id.clone());
        let reference = self.runner.decode(case, &self.plain, &self.settings.reference(), None)?;
        let Some(reference) = reference.and_then(|outcomes| outcomes.into_iter().next()) else {
            return Ok(());
        };
        if !case.is_part {
            self.report.count_reference(&reference);
        }
        self.bar.inc(1);
        for (index, candidate) in candidates.iter().enumerate() {
            let setting = self.settings.turn(number, index, case.prompt.len(), candidate);
            let began = Instant::now();
            let Some(outcomes) = self.runner.decode(case, candidate, &setting, Some(&reference))? else {
                return Ok(());
            };
            self.report.count(case, candidate, &setting, &reference, &outcomes, began.elapsed());
            self.bar.inc(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: VerifyArgs,
    }

    #[test]
    fn thread_counts_are_a_list() {
        let parse = |list: &str| Line::try_parse_from(["verify", "--prompts", "p", "--threads", list]);
        let threads = parse("1,2,8").unwrap().arguments.threads;
        assert_eq!(threads.iter().map(|count| count.get()).collect::<Vec<_>>(), [1, 2, 8]);
        assert!(parse("1,0").is_err());
        assert_eq!(thread_counts(NonZeroUsize::MIN).len(), 1);
    }

    #[test]
    fn prompts_are_one_file_or_several() {
        let parse = |line: &str| Line::try_parse_from(std::iter::once("verify").chain(line.split(' ')));
        assert_eq!(parse("--prompts a b --limit 3").unwrap().arguments.prompts.len(), 2);
        assert_eq!(parse("--prompts a --prompts b").unwrap().arguments.prompts.len(), 2);
        assert_eq!(parse("--ids a b").unwrap().arguments.ids.len(), 2);
        assert!(parse("--prompts a --ids b").is_err());
        assert!(parse("--limit 3").is_err());
    }
}
