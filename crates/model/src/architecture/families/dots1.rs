//! dots.llm1: as Qwen3 with experts in the manner of DeepSeek V3 behind the first layers.
//!
//! Source: Huo et al., "dots.llm1 Technical Report" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, RouterScores};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{DEEPSEEK_EXPERTS, LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["dots1"],
    model_types: &["dots1"],
    describe,
    layout: Layout::new(&[&DEEPSEEK_EXPERTS, &LLAMA]),
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Heads), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    if let Some(window) = model.window()?
        && let Some(slides) = model.sliding_layers()?
    {
        architecture.slide(&slides, window, [Some(0); 2]);
    }
    let dense_layers = model.number("leading_dense_block_count")?.unwrap_or(0);
    architecture.sparse(&model.deepseek_experts(RouterScores::Sigmoid)?, |index| index >= dense_layers);
    Ok(architecture)
}
