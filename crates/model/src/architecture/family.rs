//! What a family's file provides.

use super::hyperparameters::Hyperparameters;
use super::model::Architecture;
use super::tensor_names::Layout;
use crate::load_error::LoadError;

/// A family of models.
pub(super) struct Family {
    /// Its names in `general.architecture` of GGUF files.
    pub(super) gguf: &'static [&'static str],
    /// Its names in `model_type` of `config.json`.
    pub(super) model_types: &'static [&'static str],
    /// Describes a model of it.
    pub(super) describe: fn(&Hyperparameters<'_>) -> Result<Architecture, LoadError>,
    /// How checkpoints name and store its tensors.
    pub(super) layout: Layout,
}
