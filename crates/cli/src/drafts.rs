//! The draft trie of a command: where it comes from, what drafts out of it, and where it stays.
//!
//! Contract: the trie file is either as it was or whole and new, whatever ends the program; and it is written only
//! where the trie has learned something.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, ensure};
use lookahead_engine::{DraftPolicy, DraftTrie, Drafter, NoDraft, SharedTrie, TrieConfig, TrieDrafter};
use lookahead_trie::TrieStats;

use crate::arguments::{Decoding, DraftArgs};
use crate::calibration;
use crate::interrupt::{self, After};
use crate::loaded_model::LoadedModel;
use crate::warm_up::warm_up;

/// The trie, its policy and its file.
pub(crate) struct Drafts {
    trie: SharedTrie,
    policy: DraftPolicy,
    file: Option<TrieFile>,
}

struct TrieFile {
    path: PathBuf,
    /// Of the tokenizer that the trie's token ids belong to.
    fingerprint: u64,
    /// How many tokens the trie in the file has learned.
    tokens_saved: AtomicU64,
}

impl Drafts {
    /// Loads the trie of `--trie` if the file exists, makes an empty one otherwise, and warms it up. Where drafts are
    /// used and no flag fixes them, finds out what a forward pass costs.
    ///
    /// # Errors
    /// If the trie file is damaged, was made with another tokenizer or could not be written later, or a warm-up file
    /// cannot be used.
    pub(crate) fn prepare(
        arguments: &DraftArgs,
        decoding: Decoding,
        loaded: &mut LoadedModel,
    ) -> anyhow::Result<Self> {
        let fingerprint = loaded.tokenizer.fingerprint();
        let saved = arguments.trie.as_deref().map(|path| load(path, fingerprint)).transpose()?.flatten();
        let mut trie = match saved {
            Some(trie) => trie,
            None => DraftTrie::new(TrieConfig::default())?,
        };
        let file = arguments.trie.clone().map(|path| {
            let tokens_saved = AtomicU64::new(trie.stats().tokens_inserted);
            TrieFile { path, fingerprint, tokens_saved }
        });
        warm_up(&mut trie, &loaded.tokenizer, &arguments.warmup)?;
        let needs_cost = decoding == Decoding::Lookahead && !arguments.is_fixed();
        let cost = if needs_cost { calibration::cost_curve(loaded) } else { None };
        Ok(Self { trie: Arc::new(RwLock::new(trie)), policy: arguments.policy(cost), file })
    }

    /// A drafter for one answer.
    pub(crate) fn drafter(&self, decoding: Decoding) -> Box<dyn Drafter> {
        match decoding {
            Decoding::Lookahead => Box::new(TrieDrafter::new(Arc::clone(&self.trie), self.policy.clone())),
            Decoding::Plain => Box::new(NoDraft),
        }
    }

    /// How full the trie is.
    pub(crate) fn stats(&self) -> TrieStats {
        self.trie.read().unwrap_or_else(PoisonError::into_inner).stats()
    }

    /// Writes the trie to its file, if it has one and has learned something since. Ctrl-C waits for it.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let trie = self.trie.read().unwrap_or_else(PoisonError::into_inner);
        let tokens = trie.stats().tokens_inserted;
        if tokens != file.tokens_saved.load(Ordering::Relaxed) {
            let _interrupt = interrupt::on_interrupt(|| After::GoOn);
            save(&trie, file)
                .with_context(|| format!("cannot save the draft trie to {}", file.path.display()))?;
            file.tokens_saved.store(tokens, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The trie in the file at `path`; `None` if there is no such file yet.
fn load(path: &Path, fingerprint: u64) -> anyhow::Result<Option<DraftTrie>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = directory_of(path);
            // Said now and not after the answer.
            ensure!(
                directory.is_dir(),
                "cannot keep a draft trie in {}: there is no directory {}",
                path.display(),
                directory.display()
            );
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the draft trie {}", path.display()));
        }
    };
    let trie = DraftTrie::load(TrieConfig::default(), fingerprint, file)
        .with_context(|| format!("cannot use the draft trie {}", path.display()))?;
    Ok(Some(trie))
}

/// Writes a temporary file beside the old one and lets it take its name in one step.
fn save(trie: &DraftTrie, TrieFile { path, fingerprint, .. }: &TrieFile) -> anyhow::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let directory = directory_of(&path);
    let mut temporary = tempfile::Builder::new().prefix(".trie-").tempfile_in(directory)?;
    trie.save(*fingerprint, temporary.as_file_mut())?;
    if let Ok(old) = fs::metadata(&path) {
        temporary.as_file().set_permissions(old.permissions())?;
    }
    // The content reaches the disk before the name does, power cut or not.
    temporary.as_file().sync_all()?;
    temporary.persist(&path)?;
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
