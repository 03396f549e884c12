//! EXAONE 4: norms behind the blocks only, and on each head of queries and keys. In the large models three of four layers see a
//! window, and only those have a rotary embedding.
//!
//! Source: LG AI Research, "EXAONE 4.0: Unified Large Language Models Integrating Non-reasoning and Reasoning Modes" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, POST_NORMS};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["exaone4"],
    model_types: &["exaone4"],
    describe,
    layout: Layout::new(&[&POST_NORMS, &LLAMA]),
};

/// With a window, every fourth layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 4;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Heads), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    architecture.wire(Wiring::PostNorm);
    let Some(window) = model.window()? else { return Ok(architecture) };
    architecture.slide(&model.sliding_but_every(GLOBAL_EVERY)?, window, [Some(0), None]);
    Ok(architecture)
}
