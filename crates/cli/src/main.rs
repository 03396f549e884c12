//! The `lookahead` command: fast generation with large language models that changes no token.
//!
//! Exit codes: 0 when all went well, 1 when something failed (or `verify` found a difference), 2 for a wrong
//! command line, 130 after Ctrl-C. Results go to stdout; progress, logs and errors go to stderr.

mod answer;
mod arguments;
mod calibration;
mod catalogue;
mod chat;
mod commands;
mod drafts;
mod interrupt;
mod loaded_model;
mod memory;
mod output;
mod paint;
mod progress;
mod prompts;
mod report;
mod store;
mod token_ids;
mod warm_up;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::commands::serve::LogFormat;

/// The command whose flags can also come from elsewhere.
const SERVE: &str = "serve";

/// The environment variable with the log filter, in the syntax of `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "LOOKAHEAD_LOG";

/// Fast, lossless text generation with large language models
///
/// Lookahead drafts likely continuations out of everything seen so far, checks them all in one pass of the
/// model, and keeps what the model itself would have said: several times faster, and not one token different.
#[derive(Debug, Parser)]
#[command(name = "lookahead", version, after_long_help = HELP)]
struct CommandLine {
    #[command(subcommand)]
    command: commands::Command,

    /// Log more to stderr: -v what happens, -vv details, -vvv everything
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 1000)]
    verbose: u8,
}

const HELP: &str = "\
Examples:
  lookahead generate --prompt Hi   Answer with the default model, fetched on first use (98 MB)
  lookahead chat --show-drafts     Talk to it, and see in colour which tokens came for free
  lookahead serve                  Serve it to OpenAI's clients, with a chat page in the browser
  lookahead models                 What can be pulled, and what is here already
  lookahead pull --help            More about one command, with examples

Environment:
  LOOKAHEAD_CACHE   Where models are kept, and what was measured of them; default: the platform's cache directory,
                    such as ~/.cache/lookahead
  LOOKAHEAD_LOG     Log filter, such as `debug` or `lookahead=trace`; wins over -v

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.";

fn main() -> ExitCode {
    let result = parse().and_then(|command_line| {
        start(command_line.verbose, &command_line.command)?;
        command_line.command.run()
    });
    match result {
        Ok(code) => code,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Ctrl-C pulls the rug from under the work in progress; its error is not the user's business.
            interrupt::wait_for_handler();
            let _ = io::stderr().write_all(output::describe(&error).as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// The command line; for `serve`, what it does not say comes from the environment and a file.
fn parse() -> anyhow::Result<CommandLine> {
    let with_config = |config: Option<&Path>| -> anyhow::Result<clap::ArgMatches> {
        let mut command = CommandLine::command();
        let serve = command.find_subcommand(SERVE).context("there is `serve`")?.clone();
        let serve = commands::serve::read_config(serve, config)?;
        command = command.mut_subcommand(SERVE, |_| serve);
        Ok(command.get_matches())
    };
    let mut matches = with_config(None)?;
    let config = matches.subcommand_matches(SERVE).and_then(|serve| serve.get_one::<PathBuf>("config"));
    if let Some(config) = config.cloned() {
        matches = with_config(Some(&config))?;
    }
    Ok(CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

fn start(verbose: u8, command: &commands::Command) -> anyhow::Result<()> {
    let serve = match command {
        commands::Command::Serve(arguments) => Some(arguments),
        _ => None,
    };
    let default = match verbose + u8::from(serve.is_some()) {
        0 => "warn",
        1 => "warn,lookahead=info",
        2 => "info,lookahead=debug",
        _ => "trace",
    };
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(filter) if !filter.is_empty() => EnvFilter::builder()
            .parse(&filter)
            .with_context(|| format!("{LOG_VARIABLE}={filter}: not a log filter; try `debug`"))?,
        _ => EnvFilter::new(default),
    };
    // At trace level the HTTP client dumps whole requests, access token included.
    let no_secrets = filter_fn(|event| *event.level() != Level::TRACE || !event.target().starts_with("ureq"));
    let to_stderr = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let to_stderr = match serve.map(|serve| serve.log.log_format) {
        Some(LogFormat::Json) => to_stderr.json().flatten_event(true).boxed(),
        _ => to_stderr.boxed(),
    };
    tracing_subscriber::registry().with(to_stderr.with_filter(no_secrets).with_filter(filter)).init();
    interrupt::install().context("cannot listen for Ctrl-C")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::CommandLine::command().debug_assert();
    }
}
