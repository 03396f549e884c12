//! `lookahead logits`: raw logits, for comparing with other implementations.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::ThreadArgs;

const HELP: &str = "\
Examples:
  echo '[1, 2, 3]' > ids.json
  lookahead logits smollm2-135m --ids ids.json --out logits.f32
      Writes 3 rows of as many numbers as the vocabulary has tokens
  python3 -c \"import numpy; print(numpy.fromfile('logits.f32', '<f4').reshape(3, -1).argmax(1))\"
      Reads them";

/// Feed token ids to a model and write the logits of every position
///
/// The output is row-major, one row for each position, in little-endian float32.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct LogitsArgs {
    /// The model: path, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// A JSON array of token ids
    #[arg(long, value_name = "FILE.json", help_heading = "Prompt")]
    pub(crate) ids: PathBuf,

    #[command(flatten)]
    pub(crate) threads: ThreadArgs,

    /// Where to write the logits
    #[arg(long, value_name = "FILE.f32", help_heading = "Output")]
    pub(crate) out: PathBuf,
}
