//! `lookahead chat`: a conversation in the terminal.

use std::num::NonZeroUsize;

use clap::Args;

use super::generate::LookaheadArgs;
use crate::arguments::{ModelArgs, SamplingArgs, ThreadArgs};

const HELP: &str = "\
Examples:
  lookahead chat
      Talk to the default model, fetched on first use
  lookahead chat --show-drafts
      Show in colour which tokens came for free, out of accepted drafts
  lookahead chat --model qwen2.5-1.5b --system \"You are terse.\" --temperature 0.7
      Another model, a system prompt, and some randomness

Keys: Enter sends; a backslash at the end of a line continues on the next one; Ctrl-C stops the answer;
Ctrl-D ends the chat.";

/// Talk to a model in the terminal
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ChatArgs {
    /// Say this to the model first, as the system
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    pub(crate) system: Option<String>,

    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) lookahead: LookaheadArgs,

    /// Stop an answer after this many tokens
    #[arg(short = 'n', long, value_name = "N", default_value = "1024", help_heading = "Output")]
    pub(crate) max_tokens: NonZeroUsize,

    /// Colour the tokens that came out of accepted drafts
    #[arg(long, help_heading = "Output")]
    pub(crate) show_drafts: bool,
}
