//! Warm-up: a namespace learns texts and earlier answers before the first question.
//!
//! Files hold a JSON object on each line; [`learnable_texts`] is what is learned of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use lookahead_engine::{Namespace, learnable_texts};
use lookahead_model::TokenId;
use lookahead_model::tokenizer::{EncodeOptions, Tokenizer};

use crate::progress;

/// Teaches `namespace` the texts of `files`, with a progress bar on a terminal.
///
/// # Errors
/// If a file cannot be read, a line is no JSON object or a field no text (the message names file and line), or a file
/// holds nothing to learn.
pub(crate) fn warm_up(namespace: &Namespace, tokenizer: &Tokenizer, files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        learn_file(tokenizer, path, |tokens| Ok(namespace.warm_up(tokens)?))?;
    }
    Ok(())
}

/// Calls `learn` with the tokens of each text of the file at `path`.
pub(crate) fn learn_file(
    tokenizer: &Tokenizer,
    path: &Path,
    mut learn: impl FnMut(&[TokenId]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the warm-up file {name}"))?;
    let size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let bar = progress::bytes(format!("Learning {name}"), size_bytes);
    let (mut texts, mut tokens) = (0, 0);
    for (line, number) in BufReader::new(bar.wrap_read(file)).lines().zip(1..) {
        let learn_line = || -> anyhow::Result<()> {
            for text in learnable_texts(&line?)? {
                let ids = tokenizer.encode(&text, EncodeOptions::default())?;
                learn(&ids)?;
                texts += 1;
                tokens += ids.len();
            }
            Ok(())
        };
        learn_line().with_context(|| format!("cannot learn from {name}, line {number}"))?;
    }
    bar.finish_and_clear();
    ensure!(
        texts > 0,
        "there is nothing to learn in {name}: no line has text in `text`, `output`, `answer`, `reference`, nor in \
         `messages` of role assistant"
    );
    tracing::info!(file = %name, texts, tokens, "warmed up");
    Ok(())
}
