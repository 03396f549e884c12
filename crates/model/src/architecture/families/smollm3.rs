//! SmolLM3: as Llama, with a rotary embedding in three of four layers only.
//!
//! Source: Bakouch et al., "SmolLM3: smol, multilingual, long-context reasoner" (2025).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["smollm3"], model_types: &["smollm3"], describe, layout: Layout::new(&[&LLAMA]) };

/// Every so manieth layer knows no positions. GGUF files do not say.
const NO_ROPE_EVERY: usize = 4;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    let every = model.optional_count("no_rope_layer_interval")?.unwrap_or(NO_ROPE_EVERY);
    // A list says 1 for each layer that turns.
    let turns = model.numbers("no_rope_layers")?;
    for (index, attention) in architecture.attention_mut().enumerate() {
        if turns.get(index).map_or((index + 1).is_multiple_of(every), |&turns| turns == 0) {
            attention.rope = None;
        }
    }
    Ok(architecture)
}
