//! `lookahead logits`: raw logits, for comparing with other implementations.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use lookahead_model::{
    Accepted, DeviceModel, Keep, LanguageModel as _, Logits, LogitsOf, SequenceStep, TokenId, TokenTree,
};

use crate::arguments::{PrecisionArgs, ThreadArgs};
use crate::interrupt::{self, After};
use crate::loaded_model::load_weights;
use crate::progress;
use crate::token_ids::{check_vocabulary, read_ids};

const HELP: &str = "\
Examples:
  echo '[1, 2, 3]' > ids.json
  lookahead logits smollm2-135m --ids ids.json --out logits.f32
      Writes 3 rows of as many numbers as the vocabulary has tokens
  python3 -c \"import numpy; print(numpy.fromfile('logits.f32', '<f4').reshape(3, -1).argmax(1))\"
      Reads them";

/// Most bytes of logits in memory at a time, unless one row takes more.
const LOGITS_BYTES: usize = 64 << 20;
/// Most tokens of a forward pass.
const MAX_CHUNK: usize = 256;

/// Feed token ids to a model and write the logits of every position
///
/// The output is row-major, one row for each position, in little-endian float32. The model needs no tokenizer.
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

    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,

    /// Where to write the logits
    #[arg(long, value_name = "FILE.f32", help_heading = "Output")]
    pub(crate) out: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &LogitsArgs) -> anyhow::Result<ExitCode> {
    let ids = read_ids(&arguments.ids)?;
    let (mut model, _) = load_weights(&arguments.model, arguments.threads.kernels(), &arguments.precision)?;
    check(&ids, &model).with_context(|| arguments.ids.display().to_string())?;
    write_whole(&arguments.out, |out| write_logits(&ids, &mut model, out))?;
    progress::note(&format!(
        "Wrote {} rows of {} logits to {}",
        ids.len(),
        model.vocabulary_size(),
        arguments.out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Refuses what the model cannot be fed.
fn check(ids: &[TokenId], model: &DeviceModel) -> anyhow::Result<()> {
    check_vocabulary(ids, model.vocabulary_size())?;
    let context_length = model.context_length();
    ensure!(
        ids.len() <= context_length,
        "there are {} token ids, but the model's context holds {context_length}",
        ids.len()
    );
    Ok(())
}

/// Feeds the ids chunk by chunk and writes a row for each.
fn write_logits(ids: &[TokenId], model: &mut DeviceModel, out: &mut impl Write) -> anyhow::Result<()> {
    let row_bytes = model.vocabulary_size() * size_of::<f32>();
    let chunk = (LOGITS_BYTES / row_bytes.max(1)).clamp(1, MAX_CHUNK);
    let mut cache = model.new_cache(ids.len());
    let mut logits = Logits::default();
    let bar = progress::steps(ids.len() as u64);
    for ids in ids.chunks(chunk) {
        let tree = TokenTree::chain(ids)?;
        let step =
            SequenceStep { tree: &tree, cache: &mut cache, logits_of: LogitsOf::Every, keep: Keep::Row };
        model.forward(&mut [step], &mut logits)?;
        let path: Vec<u32> = (0..ids.len() as u32).collect();
        model.commit(&mut [Accepted { cache: &mut cache, path: &path }]);
        for row in 0..logits.rows() {
            let bytes: Vec<u8> = logits.row(row).iter().flat_map(|logit| logit.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
        bar.inc(ids.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes a file that has its name only once it is whole. What ends the program earlier leaves nothing behind.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut fs::File>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = path.display();
    // A device or a pipe would be replaced by a file.
    ensure!(!path.exists() || path.is_file(), "{name} is not a file");
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As any new file: readable for others if the user's mask allows it.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder
        .prefix(".logits-")
        .tempfile_in(directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    let temporary = file.path().to_owned();
    let _cleanup = interrupt::on_interrupt(move || {
        let _ = fs::remove_file(&temporary);
        After::End
    });
    let mut out = BufWriter::new(file.as_file_mut());
    write(&mut out).and_then(|()| Ok(out.flush()?)).with_context(|| format!("cannot write {name}"))?;
    drop(out);
    file.persist(path).map_err(io::Error::from).with_context(|| format!("cannot write {name}"))?;
    Ok(())
}
