//! GLM-4.5 to 4.7: half of each head rotated, perhaps norms on each head of queries and keys, experts in the manner of DeepSeek V3
//! behind the first layers.
//!
//! Source: GLM-4.5 Team, "GLM-4.5: Agentic, Reasoning, and Coding (ARC) Foundation Models" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, RouterScores};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{DEEPSEEK_EXPERTS, LLAMA, Layout, NORM_BY_PLACE};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["glm4moe"],
    model_types: &["glm4_moe"],
    describe,
    layout: Layout { aliases: NORM_BY_PLACE, ..Layout::new(&[&DEEPSEEK_EXPERTS, &LLAMA]) },
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let has_norms = model.has_qk_norm("use_qk_norm")?;
    let attention = Attention { qk_norm: has_norms.then_some(QkNorm::Heads), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    let dense_layers = model.number("leading_dense_block_count")?.unwrap_or(0);
    architecture.sparse(&model.deepseek_experts(RouterScores::Sigmoid)?, |index| index >= dense_layers);
    Ok(architecture)
}
