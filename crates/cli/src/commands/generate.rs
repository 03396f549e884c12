//! `lookahead generate`: complete one prompt.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use lookahead_engine::{Engine, EngineOptions, FinishReason, GenerationRequest};
use lookahead_replay::{DEFAULT_TASK, RUNNERS_UP, Recorder, Stream};

use crate::answer::{Marks, answer, check_prompt_fits};
use crate::arguments::{Decoding, DraftArgs, LoadArgs, ReasoningArgs, SamplingArgs};
use crate::drafts::Drafts;
use crate::loaded_model::LoadedModel;
use crate::paint::Paint;
use crate::prompts::PromptContent;
use crate::report::{self, Setup};
use crate::{interrupt, output, progress};

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

The text goes to stdout as it is generated, what the model thinks first and a line of statistics to stderr. Ctrl-C ends
the answer, not the work: the statistics come, the trie is saved, and the exit code is 130.

Fields of --json: `prompt_tokens`, `completion_tokens`, `token_ids` (all of them, the token that ended the answer
included), `reasoning` (what the model thought first; null if nothing, and with --raw or --reasoning off), `text` (the
answer alone, without stop strings), `finish_reason` (`stop`, `length` or `cancelled`), `timings`,
`lookahead` (steps, EDL, drafted and accepted tokens, where the time went), `logits_hash` (with --logits-hash),
`model`, `threads`, `decoding`, `seed` (null for greedy).";

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
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) lookahead: LookaheadArgs,
    #[command(flatten)]
    pub(crate) reasoning: ReasoningArgs,
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

    /// Read the prompt from this file; the line feed at its end is dropped unless --raw is given
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,

    /// Read the prompt from stdin, likewise
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

    /// Append the answer's tokens, with the model's most likely ones in each place, to this file, for `lookahead replay`
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) record: Option<PathBuf>,

    /// What kind of request --record calls it
    #[arg(long, value_name = "NAME", requires = "record", default_value = DEFAULT_TASK)]
    pub(crate) record_task: String,
}

/// Runs the command.
pub(crate) fn run(arguments: &GenerateArgs) -> anyhow::Result<ExitCode> {
    let text = arguments.prompt.read()?;
    // A recording that cannot be kept should not cost an answer first.
    let recorder = arguments.output.record.as_deref().map(Recorder::open).transpose()?;
    let mut loaded = arguments.load.load()?;
    let PromptArgs { raw, system, .. } = &arguments.prompt;
    if !loaded.has_template() && !raw {
        progress::note(
            "The model has no chat template: it continues the prompt as it stands (as with --raw)",
        );
    }
    let prompt = loaded.encode_prompt(&PromptContent::Text(text), system.as_deref(), *raw)?;
    check_prompt_fits(prompt.len(), &loaded.model)?;
    let marks = if *raw || !loaded.has_template() {
        Marks::none()
    } else {
        Marks::of(&loaded.prompts, arguments.reasoning.reasoning, &prompt)
    };
    let drafts = Drafts::prepare(&arguments.lookahead.draft, arguments.lookahead.decoding, &mut loaded)?;
    let (cancel, _interrupt) = interrupt::raise_on_interrupt();
    let request = GenerationRequest {
        prompt: prompt.into(),
        max_tokens: arguments.output.max_tokens.get(),
        sampling: arguments.sampling.params(),
        end_tokens: loaded.tokenizer().end_of_generation().to_vec(),
        trace_logits: arguments.output.logits_hash,
        runners_up: if recorder.is_some() { RUNNERS_UP } else { 0 },
        logprobs: None,
        cancel: Some(cancel),
    };
    let answered = respond(arguments, loaded, request, marks, &drafts, recorder);
    // What was learned is kept, whatever became of the answer.
    let saved = drafts.save();
    let finish_reason = answered?;
    saved?;
    Ok(match finish_reason {
        FinishReason::Cancelled => ExitCode::from(interrupt::EXIT_CODE),
        FinishReason::Stop | FinishReason::Length => ExitCode::SUCCESS,
    })
}

/// Generates the answer and prints it: the text as it comes and a line about it, or the object.
fn respond(
    GenerateArgs { load, lookahead, output, .. }: &GenerateArgs,
    loaded: LoadedModel,
    request: GenerationRequest,
    marks: Marks,
    drafts: &Drafts,
    recorder: Option<Recorder>,
) -> anyhow::Result<FinishReason> {
    let sampling = request.sampling.clone();
    let prompt_ids = if recorder.is_some() { request.prompt.to_vec() } else { Vec::new() };
    let mut engine = Engine::new(loaded.model, EngineOptions::default());
    let mut stdout = output::stdout();
    let drafter = drafts.drafter(lookahead.decoding);
    let mut brush = Paint::detect().brush(false);
    let tokenizer = loaded.prompts.tokenizer();
    let answered = answer(&mut engine, tokenizer, request, drafter, &output.stop, marks, |piece| {
        if output.json { Ok(()) } else { brush.write(&mut stdout, piece) }
    });
    brush.finish(&mut stdout)?;
    let answer = answered?;
    if output.json {
        let setup = Setup {
            model: &loaded.path,
            load_time: loaded.load_time,
            threads: load.threads.threads.get(),
            decoding: lookahead.decoding,
            sampling: &sampling,
        };
        writeln!(stdout, "{}", report::to_json(&answer, &setup))?;
        stdout.flush()?;
    } else {
        if !answer.text.ends_with('\n') {
            writeln!(stdout)?;
        }
        stdout.flush()?;
        progress::note(&report::summary(&answer.generation, &sampling));
    }
    if let Some(mut recorder) = recorder {
        recorder.add(&Stream {
            task: output.record_task.clone(),
            prompt_ids,
            output_ids: answer.generation.token_ids,
            runners_up: answer.generation.runners_up,
        })?;
    }
    Ok(answer.generation.finish_reason)
}

impl PromptArgs {
    /// The prompt's text, wherever it comes from.
    fn read(&self) -> anyhow::Result<String> {
        let PromptSource { prompt, prompt_file, .. } = &self.source;
        let (name, mut text) = if let Some(prompt) = prompt {
            ("--prompt".to_owned(), prompt.clone())
        } else if let Some(path) = prompt_file {
            let name = path.display().to_string();
            let bytes = fs::read(path).with_context(|| format!("cannot read the prompt from {name}"))?;
            let text = utf8(bytes, &name)?;
            (name, text)
        } else {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).context("cannot read the prompt from stdin")?;
            ("stdin".to_owned(), utf8(bytes, "stdin")?)
        };
        // Editors and `echo` end a text with a line feed that nobody means; --raw takes a text as it stands.
        if prompt.is_none() && !self.raw && text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        let is_empty = if self.raw { text.is_empty() } else { text.trim().is_empty() };
        ensure!(!is_empty, "the prompt is empty ({name})");
        Ok(text)
    }
}

/// The text that `bytes` are; `name` is what errors call them.
fn utf8(bytes: Vec<u8>, name: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        anyhow::anyhow!(
            "{name} is not UTF-8 text (byte {} cannot be read)\nConvert it, with `iconv` for example",
            error.utf8_error().valid_up_to() + 1
        )
    })
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
        assert_eq!(arguments.load.model.model, "smollm2-135m");
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
    fn the_help_has_the_six_groups() {
        let help = Line::command().render_long_help().to_string();
        for heading in
            ["Prompt:", "Model:", "Sampling:", "Lookahead:", "Conversations:", "Output:", "[default: 256]"]
        {
            assert!(help.contains(heading), "{heading} is not in {help}");
        }
    }
}
