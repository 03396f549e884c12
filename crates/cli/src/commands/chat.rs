//! `lookahead chat`: a conversation in the terminal.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::generate::LookaheadArgs;
use crate::arguments::{Decoding, LoadArgs, ReasoningArgs, SamplingArgs};
use crate::chat::{Chat, Settings};
use crate::drafts::Drafts;
use crate::store::ModelStore;

const HELP: &str = "\
Examples:
  lookahead chat
      Talk to the default model, fetched on first use
  lookahead chat --show-drafts
      Show in colour which tokens came for free, out of accepted drafts
  lookahead chat --model qwen2.5-1.5b --system \"You are terse.\" --temperature 0.7
      Another model, a system prompt, and some randomness

  printf 'What is DNA?\\nAnd RNA?\\n' | lookahead chat
      Questions from a pipe, one a line

Keys: Enter sends; a backslash at the end of a line continues on the next one; Ctrl-C stops the answer;
Ctrl-D ends the chat. /help within the chat lists its commands.

What the model thinks before it answers goes to stderr, dimmed on a terminal; the answer goes to stdout. The model is told
both again where its chat template wants that.

Earlier answers draft later ones; --trie keeps them for the next chat. When the conversation outgrows the model's
context, the oldest turns are forgotten. Questions are kept beside the models, in `chat_history`, for the arrow keys.";

/// Talk to a model in the terminal
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ChatArgs {
    /// Say this to the model first, as the system
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    pub(crate) system: Option<String>,

    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) lookahead: LookaheadArgs,
    #[command(flatten)]
    pub(crate) reasoning: ReasoningArgs,

    /// Stop an answer after this many tokens
    #[arg(short = 'n', long, value_name = "N", default_value = "1024", help_heading = "Output")]
    pub(crate) max_tokens: NonZeroUsize,

    /// Colour the tokens that came out of accepted drafts
    #[arg(long, help_heading = "Output")]
    pub(crate) show_drafts: bool,

    /// Neither read nor write the history of questions
    #[arg(long, help_heading = "Output")]
    pub(crate) no_history: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: ChatArgs) -> anyhow::Result<ExitCode> {
    let ChatArgs { system, load, sampling, lookahead, reasoning, max_tokens, show_drafts, no_history } =
        arguments;
    let mut loaded = load.load()?;
    if !loaded.has_template() {
        let model = load.model.model;
        bail!(
            "{model} has no chat template: it was made to continue texts, not to talk\n\
             Try `lookahead generate --raw --model {model} --prompt \"Once upon a time\"`, or another model: \
             `lookahead models` lists some"
        );
    }
    // A chat that begins with plain decoding may go on with lookahead.
    let drafts = Drafts::prepare(&lookahead.draft, Decoding::Lookahead, &mut loaded)?;
    let history = if no_history {
        None
    } else {
        Some(ModelStore::of_user()?.directory().with_file_name("chat_history"))
    };
    let settings = Settings {
        system,
        sampling,
        decoding: lookahead.decoding,
        reasoning: reasoning.reasoning,
        show_drafts,
        max_tokens: max_tokens.get(),
        history,
    };
    Chat::new(loaded, drafts, settings).run()
}
