//! `lookahead generate`: complete one prompt.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::arguments::{Decoding, DraftArgs, ModelArgs, SamplingArgs, ThreadArgs};

const HELP: &str = "\
Examples:
  lookahead generate --prompt \"Explain DNA in two sentences.\"
      Answer with the default model, fetched on first use
  lookahead generate --model qwen2.5-coder-0.5b --prompt-file task.md --max-tokens 1000
      Another model, and a longer answer
  git diff | lookahead generate --system \"Write a commit message.\" -
      The prompt comes from stdin
  lookahead generate --raw --prompt \"def fibonacci(n):\"
      Continue the text as it stands, without the chat template
  lookahead generate --prompt \"Tell me a story.\" --temperature 0.8 --seed 7
      Sample; the seed makes it repeatable, with --decoding plain as well
  lookahead generate --prompt-file q.txt --trie drafts.trie --warmup answers.jsonl
      Start with a trie that knows earlier answers, and keep what it learns
  lookahead generate --prompt \"Hi\" --json
      One JSON object with the text, the token ids, timings and statistics of lookahead

The text goes to stdout as it is generated, a line of statistics to stderr.";

/// Generate text from a prompt
///
/// The prompt is put through the model's chat template unless --raw is given. With lookahead, the tokens are
/// those of plain decoding, bit for bit; only sooner.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) lookahead: LookaheadArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What to answer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct PromptArgs {
    #[command(flatten)]
    pub(crate) source: PromptSource,

    /// Give the model the prompt as it stands, without its chat template
    #[arg(long)]
    pub(crate) raw: bool,

    /// Say this to the model first, as the system
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,
}

/// Where the prompt comes from: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptSource {
    /// The prompt
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,

    /// Read the prompt from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,

    /// Read the prompt from stdin
    #[arg(value_name = "-", value_parser = ["-"], hide_possible_values = true)]
    pub(crate) stdin: Option<String>,
}

/// How drafts are used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lookahead")]
pub(crate) struct LookaheadArgs {
    /// How to decode; never changes the result
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) decoding: Decoding,

    #[command(flatten)]
    pub(crate) draft: DraftArgs,
}

/// What comes out.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Stop after this many tokens
    #[arg(short = 'n', long, value_name = "N", default_value = "256")]
    pub(crate) max_tokens: NonZeroUsize,

    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,

    /// Print one JSON object at the end instead of the text as it comes
    #[arg(long)]
    pub(crate) json: bool,

    /// Add a hash over the bits of the logits that chose each token
    #[arg(long, requires = "json")]
    pub(crate) logits_hash: bool,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: GenerateArgs,
    }

    fn parse(line: &str) -> Result<GenerateArgs, String> {
        let line = std::iter::once("generate").chain(line.split_whitespace());
        Line::try_parse_from(line).map(|line| line.arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn a_prompt_comes_from_exactly_one_place() {
        assert_eq!(parse("--prompt hi").unwrap().prompt.source.prompt.as_deref(), Some("hi"));
        assert!(parse("--prompt-file f").unwrap().prompt.source.prompt_file.is_some());
        assert!(parse("-").unwrap().prompt.source.stdin.is_some());
        for line in ["", "--prompt hi -", "--prompt hi --prompt-file f", "hi"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn defaults_are_greedy_lookahead_with_the_default_model() {
        let arguments = parse("-").unwrap();
        assert_eq!(arguments.model.model, "smollm2-135m");
        assert_eq!(arguments.sampling.temperature, 0.0);
        assert_eq!(arguments.lookahead.decoding, Decoding::Lookahead);
        assert_eq!(arguments.output.max_tokens.get(), 256);
    }

    #[test]
    fn contradictions_are_refused() {
        for line in ["- --raw --system x", "- --logits-hash", "- --max-tokens 0", "- --threads 0"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_has_the_five_groups() {
        let help = Line::command().render_long_help().to_string();
        for heading in ["Prompt:", "Model:", "Sampling:", "Lookahead:", "Output:", "[default: 256]"] {
            assert!(help.contains(heading), "{heading} is not in {help}");
        }
    }
}
