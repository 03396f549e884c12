//! `lookahead models`: what can be pulled, and what is here.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use crate::output;
use crate::store::{Listed, ModelStore};

const HELP: &str = "\
Examples:
  lookahead models          A table
  lookahead models --json   The same for programs: one array of objects

Columns:
  NAME     What --model and `lookahead pull` take
  SIZE     Size of the file, where it is known
  DIGEST   pinned: this version of lookahead knows the file's SHA-256; hub: the hub tells it at the download
  WHERE    The file, or `not downloaded`";

/// List the models that can be pulled by name, and all that are here
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(crate) struct ModelsArgs {
    /// Print a JSON array
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &ModelsArgs) -> anyhow::Result<ExitCode> {
    let list = ModelStore::of_user()?.list();
    let mut stdout = output::stdout();
    if arguments.json {
        let array: Value = list.iter().map(to_json).collect();
        writeln!(stdout, "{array:#}")?;
    } else {
        write_table(&mut stdout, &list)?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What users call the model.
fn name(model: &Listed) -> String {
    match (model.entry, &model.source, &model.path) {
        (Some(entry), _, _) => entry.name.to_owned(),
        (None, Some(source), _) => source.to_string(),
        (None, None, Some(path)) => path.display().to_string(),
        (None, None, None) => String::new(),
    }
}

/// Who vouches for the file's content.
fn digest(model: &Listed) -> &'static str {
    match (model.entry, &model.source) {
        (Some(entry), _) if entry.sha256.is_some() => "pinned",
        (_, Some(_)) => "hub",
        _ => "none",
    }
}

fn to_json(model: &Listed) -> Value {
    let entry = model.entry;
    json!({
        "name": name(model),
        "path": model.path.as_ref().map(|path| path.to_string_lossy()),
        "size_bytes": model.size_bytes,
        "source": model.source.as_ref().map(ToString::to_string),
        "digest": digest(model),
        "sha256": entry.and_then(|entry| entry.sha256),
        "architecture": entry.map(|entry| entry.architecture),
        "parameters": entry.map(|entry| entry.parameters),
        "context_tokens": entry.map(|entry| entry.context_tokens),
        "licence": entry.map(|entry| entry.licence),
        "description": entry.map(|entry| entry.description),
    })
}

fn write_table(out: &mut impl Write, list: &[Listed]) -> io::Result<()> {
    let heading = ["NAME", "SIZE", "ARCHITECTURE", "CONTEXT", "LICENCE", "DIGEST", "SOURCE", "WHERE"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(list.iter().map(row));
    let widths: Vec<usize> = (0..heading.len())
        .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(model: &Listed) -> [String; 8] {
    let unknown = || "-".to_owned();
    let entry = model.entry;
    [
        name(model),
        model.size_bytes.map_or_else(unknown, |bytes| DecimalBytes(bytes).to_string()),
        entry.map_or_else(unknown, |entry| format!("{} {}", entry.architecture, entry.parameters)),
        entry.map_or_else(unknown, |entry| entry.context_tokens.to_string()),
        entry.map_or_else(unknown, |entry| entry.licence.to_owned()),
        digest(model).to_owned(),
        model.source.as_ref().map_or_else(unknown, ToString::to_string),
        model.path.as_ref().map_or_else(|| "not downloaded".to_owned(), |path| path.display().to_string()),
    ]
}
