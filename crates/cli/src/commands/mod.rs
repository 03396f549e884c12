//! The subcommands, a file each.

mod models;
mod pull;

mod bench;
mod calibrate;
mod chat;
#[cfg(feature = "gpu")]
mod devices;
mod generate;
mod inspect;
mod logits;
mod render;
mod replay;
pub(crate) mod serve;
mod tokenize;
mod trie;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

/// A subcommand with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Pull(pull::PullArgs),
    Models(models::ModelsArgs),
    Generate(generate::GenerateArgs),
    Chat(chat::ChatArgs),
    Serve(Box<serve::ServeArgs>),
    Verify(verify::VerifyArgs),
    Calibrate(calibrate::CalibrateArgs),
    #[cfg(feature = "gpu")]
    Devices(devices::DevicesArgs),
    Bench(bench::BenchArgs),
    Inspect(inspect::InspectArgs),
    Logits(logits::LogitsArgs),
    Render(render::RenderArgs),
    Replay(replay::ReplayArgs),
    Tokenize(tokenize::TokenizeArgs),
    Trie(trie::TrieArgs),
}

impl Command {
    /// Runs the command; the exit code is its verdict, an error that it could not be reached.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Pull(arguments) => pull::run(&arguments),
            Self::Models(arguments) => models::run(&arguments),
            Self::Generate(arguments) => generate::run(&arguments),
            Self::Chat(arguments) => chat::run(arguments),
            Self::Verify(arguments) => verify::run(&arguments),
            #[cfg(feature = "gpu")]
            Self::Devices(arguments) => devices::run(&arguments),
            Self::Calibrate(arguments) => calibrate::run(&arguments),
            Self::Bench(arguments) => bench::run(&arguments),
            Self::Inspect(arguments) => inspect::run(&arguments),
            Self::Logits(arguments) => logits::run(&arguments),
            Self::Render(arguments) => render::run(&arguments),
            Self::Replay(arguments) => replay::run(&arguments),
            Self::Serve(arguments) => serve::run(*arguments),
            Self::Tokenize(arguments) => tokenize::run(&arguments),
            Self::Trie(arguments) => trie::run(&arguments),
        }
    }
}
