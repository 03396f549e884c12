//! Granite 3: as Llama, with factors on embeddings, attention, what blocks add, and logits.
//!
//! Source: Granite Team, "Granite 3.0 Language Models" (2024).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["granite"], model_types: &["granite"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut attention = model.attention()?;
    attention.scale = model.float("attention.scale")?.unwrap_or(attention.scale);
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    architecture.embedding.scale = model.float("embedding_scale")?.unwrap_or(1.0);
    architecture.residual_scale = model.float("residual_scale")?.unwrap_or(1.0);
    architecture.logit_scale = 1.0 / model.float("logit_scale")?.unwrap_or(1.0);
    Ok(architecture)
}
