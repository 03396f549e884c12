//! `lookahead tokenize`: token ids of texts, for comparing with other implementations.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use lookahead_model::tokenizer::EncodeOptions;
use lookahead_model::{OpenModel, TokenId};

use crate::output;
use crate::store::pull::resolve_model;

const HELP: &str = "\
Examples:
  echo -n 'Hello world' | lookahead tokenize smollm2-135m
      The ids on one line
  echo '[\"Hello\", \"world\"]' | lookahead tokenize smollm2-135m --json
      Many texts at once: a JSON array of strings in, a JSON array of arrays of ids out
  echo -n '<|im_start|>user' | lookahead tokenize smollm2-135m --special
      Names of control tokens become those tokens

As at the beginning of a prompt, the model's beginning-of-sequence token comes first, if it wants one.";

/// Turn text from stdin into the token ids of a model
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct TokenizeArgs {
    /// The model: path, name, or hf:OWNER/REPO[/FILE.gguf]
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Turn names of control tokens in the text into those tokens
    #[arg(long, help_heading = "Prompt")]
    pub(crate) special: bool,

    /// Do not begin with the beginning-of-sequence token
    #[arg(long, help_heading = "Prompt")]
    pub(crate) no_bos: bool,

    /// Read a JSON array of strings and print a JSON array of arrays of ids
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &TokenizeArgs) -> anyhow::Result<ExitCode> {
    let tokenizer = OpenModel::open(resolve_model(&arguments.model)?)?.tokenizer()?;
    let options = EncodeOptions { add_bos: !arguments.no_bos, parse_special: arguments.special };
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input).context("cannot read stdin")?;

    let mut stdout = output::stdout();
    if arguments.json {
        let texts: Vec<String> =
            serde_json::from_slice(&input).context("stdin is not a JSON array of strings")?;
        let ids = texts.iter().map(|text| tokenizer.encode(text, options)).collect::<Result<Vec<_>, _>>()?;
        serde_json::to_writer(&mut stdout, &ids).map_err(io::Error::from)?;
        writeln!(stdout)?;
    } else {
        let text = str::from_utf8(&input).context("stdin is not UTF-8 text")?;
        writeln!(stdout, "{}", line(&tokenizer.encode(text, options)?))?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn line(ids: &[TokenId]) -> String {
    ids.iter().map(TokenId::to_string).collect::<Vec<_>>().join(" ")
}
