//! What a command drafts from: where it comes from, and where it stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lookahead_engine::{DraftPolicy, Drafter, Namespace, NamespaceDrafter, NoDraft, spellings};
use lookahead_trie::{Corpus, NamespaceStats};

use crate::arguments::{Decoding, DraftArgs};
use crate::interrupt::{self, After};
use crate::loaded_model::LoadedModel;
use crate::warm_up::warm_up;
use crate::{calibration, progress};

/// What the texts of a command may take in memory, with their index: about six million tokens.
pub(crate) const NAMESPACE_BYTES: usize = 256 << 20;

/// The namespace of a command, its policy and its file.
pub(crate) struct Drafts {
    namespace: Arc<Namespace>,
    policy: DraftPolicy,
    file: Option<PathBuf>,
}

impl Drafts {
    /// Opens the file of `--trie`, starts with nothing without one, adds corpora, and warms it up. Where drafts are used
    /// and no flag fixes them, finds out what a forward pass costs.
    ///
    /// # Errors
    /// If a file of drafts is damaged, was made with another tokenizer or could not be written later, or a warm-up file
    /// cannot be used.
    pub(crate) fn prepare(
        arguments: &DraftArgs,
        decoding: Decoding,
        loaded: &mut LoadedModel,
    ) -> anyhow::Result<Self> {
        let fingerprint = loaded.tokenizer().fingerprint();
        let namespace = match &arguments.trie {
            Some(path) => open(path, fingerprint)?,
            None => Namespace::new(NAMESPACE_BYTES)?,
        };
        for path in &arguments.corpus {
            let corpus = Corpus::open(path, Some(fingerprint)).context("cannot use a corpus")?;
            namespace.add_corpus(&path.display().to_string(), corpus).context("cannot use a corpus")?;
        }
        warm_up(&namespace, loaded.tokenizer(), &arguments.warmup)?;
        let needs_cost = decoding == Decoding::Lookahead && !arguments.policy.is_fixed();
        let cost = if needs_cost { calibration::cost_curve(loaded) } else { None };
        Ok(Self {
            namespace: Arc::new(namespace),
            policy: DraftPolicy {
                spellings: (decoding == Decoding::Lookahead).then(|| spellings(loaded.tokenizer())),
                ..arguments.policy.draft_policy(cost)
            },
            file: arguments.trie.clone(),
        })
    }

    /// A drafter for one answer.
    pub(crate) fn drafter(&self, decoding: Decoding) -> Box<dyn Drafter> {
        match decoding {
            Decoding::Lookahead => {
                Box::new(NamespaceDrafter::new(Arc::clone(&self.namespace), self.policy.clone()))
            }
            Decoding::Plain => Box::new(NoDraft),
        }
    }

    /// How full the namespace is.
    pub(crate) fn stats(&self) -> NamespaceStats {
        self.namespace.stats()
    }

    /// Writes what was learned to the file, if there is one. Ctrl-C waits for it.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        let _interrupt = interrupt::on_interrupt(|| After::GoOn);
        self.namespace.save().with_context(|| format!("cannot save the drafts to {}", path.display()))
    }
}

/// The namespace in the file at `path` and its journal.
fn open(path: &Path, fingerprint: u64) -> anyhow::Result<Namespace> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Said now and not after the answer.
    ensure!(
        directory.is_dir(),
        "cannot keep drafts in {}: there is no directory {}",
        path.display(),
        directory.display()
    );
    let namespace = Namespace::open(path, fingerprint, NAMESPACE_BYTES)
        .with_context(|| format!("cannot use the drafts in {}", path.display()))?;
    if !namespace.is_saved() {
        progress::note(&format!(
            "Another program has {} open: its drafts are used, and what is learned here is not kept",
            path.display()
        ));
    }
    Ok(namespace)
}
