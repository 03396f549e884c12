//! The files of a checkpoint.

use std::path::Path;

/// The hyperparameters.
pub(super) const CONFIG: &str = "config.json";
/// The weights, where they are in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Which file holds which tensor, where there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The path, for errors.
pub(super) fn display(path: &Path) -> String {
    path.display().to_string()
}
