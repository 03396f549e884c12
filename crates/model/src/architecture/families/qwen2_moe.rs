//! Qwen1.5-MoE and Qwen2-MoE: as Qwen2, with experts and one shared expert behind a gate of its own.
//!
//! Source: Yang et al., "Qwen2 Technical Report" (2024).

use lookahead_kernels::{Activation, RopePairs};

use super::qwen2;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Experts, Mlp, SharedExpert};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["qwen2moe"], model_types: &["qwen2_moe"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    qwen2::slide(model, &mut architecture)?;
    let size = model.count("expert_feed_forward_length")?;
    let experts = model.experts(size, model.flag("norm_topk_prob")?.unwrap_or(false))?;
    let mlp = Mlp { size: model.count("expert_shared_feed_forward_length")?, ..experts.expert };
    let shared = Some(SharedExpert { mlp, gated: true });
    sparse_layers(model, &mut architecture, &Experts { shared, ..experts })?;
    Ok(architecture)
}

/// Gives `experts` to every `decoder_sparse_step`th layer that is not among `mlp_only_layers`.
pub(super) fn sparse_layers(
    model: &Hyperparameters<'_>,
    architecture: &mut Architecture,
    experts: &Experts,
) -> Result<(), LoadError> {
    let step = model.optional_count("decoder_sparse_step")?.unwrap_or(1);
    let dense = model.numbers("mlp_only_layers")?;
    architecture.sparse(experts, |index| (index + 1).is_multiple_of(step) && !dense.contains(&index));
    Ok(())
}
