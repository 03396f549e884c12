//! `lookahead verify`: proof that lookahead changes nothing, on the user's own prompts and machine.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::arguments::{ModelArgs, SamplingArgs, available_threads};

const HELP: &str = "\
Examples:
  lookahead verify --prompts prompts.jsonl
      Compare lookahead with plain decoding on every prompt of a file
  lookahead verify --prompts prompts.jsonl --limit 20 --temperature 0.8 --seed 1
      The same for sampling, on the first 20 prompts
  lookahead verify --prompts prompts.jsonl --adversarial --threads 1,2,8
      Draft trees that are wrong on purpose, with three numbers of threads

Prompt files have one JSON object a line, with `prompt` (text) or `messages` (a list of role and content), and
optionally `id`, `task`, `reference`.

Exit code: 0 if no token and no bit of the logits differs, 1 if one does.";

/// Check that lookahead yields the tokens and logits of plain decoding, bit for bit
///
/// Every prompt is decoded plainly once, and then with lookahead under several draft policies, numbers of
/// threads and sizes of prefill chunks. All differences must be 0.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct VerifyArgs {
    /// The prompts: JSON lines
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Prompt")]
    pub(crate) prompts: PathBuf,

    /// Use only the first N prompts
    #[arg(long, value_name = "N", help_heading = "Prompt")]
    pub(crate) limit: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Numbers of threads to compare
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', help_heading = "Model",
          default_values_t = thread_counts(available_threads()))]
    pub(crate) threads: Vec<NonZeroUsize>,

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
}
