//! Qwen3, dense and as a mixture of experts: as Qwen2 without biases, with norms on each head of queries and keys.
//!
//! Source: Yang et al., "Qwen3 Technical Report" (2025).

use lookahead_kernels::{Activation, RopePairs};

use super::qwen2;
use super::qwen2_moe::sparse_layers;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["qwen3", "qwen3moe"],
    model_types: &["qwen3", "qwen3_moe"],
    describe,
    layout: Layout::new(&[&LLAMA]),
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Heads), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    qwen2::slide(model, &mut architecture)?;
    if model.optional_count("expert_count")?.is_some() {
        // GGUF files do not say: all of the family's normalise.
        let normalised = model.flag("norm_topk_prob")?.unwrap_or(model.is_gguf());
        let experts = model.experts(model.count("expert_feed_forward_length")?, normalised)?;
        sparse_layers(model, &mut architecture, &experts)?;
    }
    Ok(architecture)
}
