//! `lookahead tokenize`: token ids of texts, for comparing with other implementations.

use clap::Args;

const HELP: &str = "\
Examples:
  echo -n 'Hello world' | lookahead tokenize smollm2-135m
      One line for each token: id and text
  echo '[\"Hello\", \"world\"]' | lookahead tokenize smollm2-135m --json
      Many texts at once: a JSON array of strings in, a JSON array of arrays of ids out";

/// Turn text from stdin into the token ids of a model
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct TokenizeArgs {
    /// The model: path, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Read a JSON array of strings and print a JSON array of arrays of ids
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}
