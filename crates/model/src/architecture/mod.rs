//! Architectures as data: what a decoder-only model consists of, layer by layer, block by block.
//!
//! A family is one short file in `families/` that reads a model's hyperparameters and returns an [`Architecture`]; the
//! forward pass knows no families, only what is described here. How to add one: `docs/families.md`.

mod families;
mod family;
mod hyperparameters;
mod layer;
mod model;
mod rope;
pub(crate) mod tensor_names;

pub use self::layer::{
    Attention, AttentionGate, Block, Decay, ExpertGroups, Experts, GatedConvolution, Input, KeysAndValues,
    LatentAttention, Laurel, Layer, MOST_TAPS, Mixer, Mlp, PerLayer, QkNorm, QueryScale, Recurrence,
    RecurrenceGate, RecurrentShape, RouterScores, Routing, SelectiveScan, SharedExpert, State, StreamScale,
    UpdateRule, Wiring,
};
pub use self::model::{AltUp, Architecture, Embedding, MOST_STREAMS, Norm, NormKind, OutputFactor};
pub use self::rope::{Rope, RopeFactors};

use self::family::Family;
use self::hyperparameters::Hyperparameters;
use self::tensor_names::Layout;
use crate::load_error::LoadError;
use crate::model_files::ModelFiles;

impl Architecture {
    /// Describes the model in `files`, a GGUF file or a checkpoint.
    ///
    /// # Errors
    /// If the architecture is unknown, or hyperparameters are missing or contradict each other.
    pub fn of<'a>(files: impl Into<ModelFiles<'a>>) -> Result<Self, LoadError> {
        Self::describe(files.into()).map(|(architecture, _)| architecture)
    }

    /// The same, and how tensors are stored.
    pub(crate) fn describe(files: ModelFiles<'_>) -> Result<(Self, Layout), LoadError> {
        let name = files.architecture_name()?;
        let is_gguf = matches!(files, ModelFiles::Gguf(_));
        let names = |family: &Family| if is_gguf { family.gguf } else { family.model_types };
        let Some(family) = families::ALL.iter().find(|family| names(family).contains(&name)) else {
            let mut supported: Vec<_> = families::ALL.iter().flat_map(names).copied().collect();
            supported.sort_unstable();
            return Err(LoadError::UnknownArchitecture {
                file: files.name(),
                found: name.to_owned(),
                supported: supported.join(", "),
            });
        };
        let name = names(family).iter().copied().find(|known| *known == name).unwrap_or_default();
        let layout = if is_gguf { family.layout.of_gguf() } else { family.layout };
        let hyperparameters = Hyperparameters::new(files, name, &layout);
        let mut architecture = (family.describe)(&hyperparameters)?;
        if is_gguf {
            // The last layers of some files predict tokens further ahead: drafts do that.
            let field = "nextn_predict_layers";
            let ahead = hyperparameters.number(field)?.unwrap_or(0);
            let own = architecture.layers.len().checked_sub(ahead).filter(|&own| own > 0);
            let own = own.ok_or_else(|| hyperparameters.invalid(field, "fewer than there are layers"))?;
            architecture.layers.truncate(own);
        }
        Ok((architecture, layout))
    }
}
