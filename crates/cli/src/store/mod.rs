//! The models on this machine: where they lie, how they are named, and how they get here.
//!
//! Contract: a file with a model's final name is whole. Downloads happen in a [`partial::Partial`] directory
//! beside the models and move to their final name in one step, after their digest was checked; whatever ends
//! a download early leaves at most a hidden directory, which the next download removes.
//!
//! Layout of the store's directory: `pypi/PACKAGE-VERSION/FILE` and `hf/OWNER/REPO/FILE`, each with the
//! file's digest in `FILE.sha256` (in the format of `sha256sum`). Files that users put there themselves are
//! listed as well.

mod digest;
mod disk;
mod fetched;
mod hub;
mod list;
mod partial;
mod pull;
mod pypi;
mod reference;
mod source;

pub(crate) use list::Listed;
pub(crate) use pull::{Standing, resolve_model};
pub(crate) use reference::Reference;
pub(crate) use source::Source;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The environment variable that says where models are kept.
pub(crate) const CACHE_VARIABLE: &str = "LOOKAHEAD_CACHE";

/// The directory of models.
#[derive(Clone, Debug)]
pub(crate) struct ModelStore {
    directory: PathBuf,
}

impl ModelStore {
    /// The user's store: `$LOOKAHEAD_CACHE/models`, or `lookahead/models` in the platform's cache directory
    /// (`$XDG_CACHE_HOME` or `~/.cache` on Linux). Nothing is created yet.
    pub(crate) fn of_user() -> anyhow::Result<Self> {
        let cache = match std::env::var_os(CACHE_VARIABLE) {
            Some(directory) if !directory.is_empty() => std::path::absolute(&directory)
                .with_context(|| format!("{CACHE_VARIABLE}={}: not a path", directory.display()))?,
            _ => dirs::cache_dir().map(|cache| cache.join("lookahead")).with_context(|| {
                format!("there is no home directory; set {CACHE_VARIABLE} to a directory for the models")
            })?,
        };
        Ok(Self::at(cache.join("models")))
    }

    /// The store in `directory`.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where the models lie.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the file from `source` lies, or will.
    fn path_of(&self, source: &Source) -> PathBuf {
        self.directory.join(source.relative_path())
    }
}
