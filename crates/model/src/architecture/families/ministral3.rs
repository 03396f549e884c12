//! Ministral 3: as Llama with YaRN, queries scaled by their position.
//!
//! Source: Mistral AI, "Ministral 3" (2025), the models' published description.

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QueryScale};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["mistral3"], model_types: &["ministral3"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let query_scale = if model.is_gguf() {
        match model.float("attention.temperature_scale")? {
            Some(weight) => Some((weight, model.count("rope.scaling.original_context_length")?)),
            None => None,
        }
    } else {
        let original = model.rope_number("full_attention", "original_max_position_embeddings")?;
        let weight = model.rope_number("full_attention", "llama_4_scaling_beta")?;
        weight.zip(original).map(|(weight, original)| (weight as f32, original as usize))
    };
    let query_scale =
        query_scale.map(|(weight, period)| QueryScale { weight, period: period.max(1), offset: 0 });
    let attention = Attention { query_scale, ..model.sliding_attention()? };
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)
}
