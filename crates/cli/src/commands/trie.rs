//! `lookahead trie`: files of drafts, made, looked into, merged and exported.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lookahead_model::OpenModel;
use lookahead_model::tokenizer::{DecodeOptions, Tokenizer};
use lookahead_trie::{Corpus, CorpusBuilder, merge_corpora};
use serde_json::{Value, json};

use crate::arguments::ModelArgs;
use crate::store::pull::resolve_model;
use crate::warm_up::learn_file;
use crate::{output, progress};

const HELP: &str = "\
Examples:
  lookahead trie build manual.trie manual.jsonl faq.jsonl
      Index texts or earlier answers for the default model
  lookahead generate --corpus manual.trie --prompt \"…\"
      Draft from them; any number of programs can at once
  lookahead trie merge all.trie manual.trie drafts.trie
      One file of several, with what is in their journals
  lookahead trie inspect drafts.trie
      How much is in it, of which tokenizer, and whether it is whole
  lookahead trie export drafts.trie --text > answers.jsonl
      Its texts as JSON lines, which `--warmup` and `trie build` take";

/// Make, inspect, merge and export files that drafts are made from
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct TrieArgs {
    #[command(subcommand)]
    command: TrieCommand,
}

#[derive(Debug, Subcommand)]
enum TrieCommand {
    Build(BuildArgs),
    Inspect(InspectArgs),
    Merge(MergeArgs),
    Export(ExportArgs),
}

/// Index texts, so that many programs can draft from them at once
///
/// The file is opened as fast as it can be copied to a local disk (TMPDIR), which is done so that nobody changes it meanwhile.
/// It fits models with the same tokenizer. OUT is replaced in one step when the new file is whole.
#[derive(Debug, Args)]
struct BuildArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// The file to write
    #[arg(value_name = "OUT.trie")]
    out: PathBuf,

    /// JSON lines, as for `generate --warmup`: the fields `text`, `output`, `answer`, `reference`, and what the assistant
    /// says in `messages`
    #[arg(value_name = "FILE.jsonl", required = true)]
    files: Vec<PathBuf>,
}

/// Tell what is in a file of drafts and its journal, and whether it is whole
#[derive(Debug, Args)]
struct InspectArgs {
    /// The file
    #[arg(value_name = "FILE.trie")]
    file: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Make one file of several, with what is in their journals
///
/// Texts come in the order of the files: of equal drafts, later ones count as more recent.
#[derive(Debug, Args)]
struct MergeArgs {
    /// The file to write; may be one of those that are merged, if no other program has it open
    #[arg(value_name = "OUT.trie")]
    out: PathBuf,

    /// The files to merge
    #[arg(value_name = "FILE.trie", required = true)]
    files: Vec<PathBuf>,
}

/// Print the texts of a file of drafts and of its journal as JSON lines
///
/// Each line has `token_ids`; with --text also `text`.
#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// The file
    #[arg(value_name = "FILE.trie")]
    file: PathBuf,

    /// Add the text that the tokens stand for, by the model's tokenizer
    #[arg(long)]
    text: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &TrieArgs) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        TrieCommand::Build(arguments) => build(arguments),
        TrieCommand::Inspect(arguments) => inspect(arguments),
        TrieCommand::Merge(arguments) => merge(arguments),
        TrieCommand::Export(arguments) => export(arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn build(arguments: &BuildArgs) -> anyhow::Result<()> {
    let tokenizer = tokenizer(&arguments.model)?;
    let mut builder = CorpusBuilder::default();
    for file in &arguments.files {
        learn_file(&tokenizer, file, |tokens| {
            builder.add(tokens);
            Ok(())
        })?;
    }
    report(&builder.write(&arguments.out, tokenizer.fingerprint()).context("cannot write the drafts")?);
    Ok(())
}

fn merge(arguments: &MergeArgs) -> anyhow::Result<()> {
    let corpus = merge_corpora(&arguments.files, &arguments.out).context("cannot merge files of drafts")?;
    report(&corpus);
    Ok(())
}

/// Tells what a file that was written holds.
fn report(corpus: &Corpus) {
    progress::note(&format!(
        "{}: {} texts, {} tokens, {:.1} MB",
        corpus.path().display(),
        corpus.texts().count(),
        corpus.tokens(),
        corpus.bytes() as f64 / 1e6
    ));
}

fn inspect(arguments: &InspectArgs) -> anyhow::Result<()> {
    let corpus = open(&arguments.file, None)?;
    let journaled = corpus.journaled().context("cannot read a journal")?;
    corpus.check().context("the drafts are damaged")?;
    let fields = [
        ("file", json!(arguments.file)),
        ("tokenizer", json!(format!("{:016x}", corpus.fingerprint()))),
        ("texts", json!(corpus.texts().count())),
        ("tokens", json!(corpus.tokens())),
        ("bytes", json!(corpus.bytes())),
        ("journal_texts", json!(journaled.len())),
        ("journal_tokens", json!(journaled.iter().map(Vec::len).sum::<usize>())),
    ];
    let mut stdout = output::stdout();
    if arguments.json {
        let object: Value = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        writeln!(stdout, "{object}")?;
    } else {
        for (name, value) in fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(stdout, "{:<15} {value}", name.replace('_', " "))?;
        }
        writeln!(stdout, "whole: all checksums match")?;
    }
    stdout.flush()?;
    Ok(())
}

fn export(arguments: &ExportArgs) -> anyhow::Result<()> {
    let tokenizer = arguments.text.then(|| tokenizer(&arguments.model)).transpose()?;
    let corpus = open(&arguments.file, tokenizer.as_ref().map(Tokenizer::fingerprint))?;
    let journaled = corpus.journaled().context("cannot read a journal")?;
    corpus.check().context("the drafts are damaged")?;
    let mut stdout = output::stdout();
    for tokens in corpus.texts().chain(journaled) {
        let mut line = json!({"token_ids": tokens});
        if let Some(tokenizer) = &tokenizer {
            line["text"] = json!(tokenizer.decode(&tokens, DecodeOptions::default()));
        }
        writeln!(stdout, "{line}")?;
    }
    stdout.flush()?;
    Ok(())
}

fn open(path: &Path, fingerprint: Option<u64>) -> anyhow::Result<Corpus> {
    Corpus::open(path, fingerprint).context("cannot use a file of drafts")
}

/// The tokenizer of a model, without its weights.
fn tokenizer(model: &ModelArgs) -> anyhow::Result<Tokenizer> {
    Ok(OpenModel::open(resolve_model(&model.model)?)?.tokenizer()?)
}
