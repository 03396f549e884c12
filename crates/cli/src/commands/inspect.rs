//! `lookahead inspect`: what a model file holds.

use clap::Args;

const HELP: &str = "\
Examples:
  lookahead inspect smollm2-135m
      Metadata, tensors, and the memory that the model will need
  lookahead inspect ./model.gguf --json
      The same for programs";

/// Show a model's metadata, tensors and estimated memory
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct InspectArgs {
    /// The model: path, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}
