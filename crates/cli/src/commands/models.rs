//! `lookahead models`: what can be pulled, and what is here.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use indicatif::DecimalBytes;
use serde_json::{Value, json};

use crate::memory;
use crate::output;
use crate::store::{Listed, ModelStore};

const HELP: &str = "\
Examples:
  lookahead models          A table
  lookahead models --json   The same for programs: one array of objects

Columns:
  NAME     What --model and `lookahead pull` take
  SIZE     Size of the file, where it is known
  FITS     Whether this machine's memory holds the weights and a tenth more, for all else: yes or no
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
    let memory = memory::total();
    let mut stdout = output::stdout();
    if arguments.json {
        let array: Value = list.iter().map(|model| to_json(model, memory)).collect();
        writeln!(stdout, "{array:#}")?;
    } else {
        write_table(&mut stdout, &list, memory)?;
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

/// Whether a machine with `memory_bytes` of memory holds the model; `None` where it is not known.
fn fits(model: &Listed, memory_bytes: Option<u64>) -> Option<bool> {
    // Weights take about as many bytes in memory as in the file.
    let weights = model.size_bytes?;
    Some(weights.saturating_add(weights / 10) <= memory_bytes?)
}

/// Who vouches for the file's content.
fn digest(model: &Listed) -> &'static str {
    match (model.entry, &model.source) {
        (Some(entry), _) if entry.sha256.is_some() => "pinned",
        (_, Some(_)) => "hub",
        _ => "none",
    }
}

fn to_json(model: &Listed, memory: Option<u64>) -> Value {
    let entry = model.entry;
    json!({
        "name": name(model),
        "path": model.path.as_ref().map(|path| path.to_string_lossy()),
        "size_bytes": model.size_bytes,
        "fits_memory": fits(model, memory),
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

fn write_table(out: &mut impl Write, list: &[Listed], memory: Option<u64>) -> io::Result<()> {
    let heading = ["NAME", "SIZE", "FITS", "ARCHITECTURE", "CONTEXT", "LICENCE", "DIGEST", "SOURCE", "WHERE"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(list.iter().map(|model| row(model, memory)));
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

fn row(model: &Listed, memory: Option<u64>) -> [String; 9] {
    let unknown = || "-".to_owned();
    let entry = model.entry;
    [
        name(model),
        model.size_bytes.map_or_else(unknown, |bytes| DecimalBytes(bytes).to_string()),
        fits(model, memory).map_or_else(unknown, |fits| if fits { "yes" } else { "no" }.to_owned()),
        entry.map_or_else(unknown, |entry| format!("{} {}", entry.architecture, entry.parameters)),
        entry.map_or_else(unknown, |entry| entry.context_tokens.to_string()),
        entry.map_or_else(unknown, |entry| entry.licence.to_owned()),
        digest(model).to_owned(),
        model.source.as_ref().map_or_else(unknown, ToString::to_string),
        model.path.as_ref().map_or_else(|| "not downloaded".to_owned(), |path| path.display().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_fits_if_its_weights_and_a_tenth_more_do() {
        let model = |size_bytes| Listed { entry: None, source: None, path: None, size_bytes };
        assert_eq!(fits(&model(Some(1000)), Some(1100)), Some(true));
        assert_eq!(fits(&model(Some(1000)), Some(1099)), Some(false));
        assert_eq!(fits(&model(Some(u64::MAX)), Some(u64::MAX)), Some(true));
        assert_eq!(fits(&model(None), Some(1)), None);
        assert_eq!(fits(&model(Some(1)), None), None);
    }
}
