//! The directory of models: which it is, and where in it a model lies.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::source::Source;

/// The environment variable that says where models are kept.
pub(super) const CACHE_VARIABLE: &str = "LOOKAHEAD_CACHE";

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
    pub(super) fn path_of(&self, source: &Source) -> PathBuf {
        self.directory.join(source.relative_path())
    }
}
