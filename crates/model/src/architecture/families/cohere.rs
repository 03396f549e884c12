//! Command R and R7B (Cohere): layer norms without biases, attention beside the network, neighbouring rotary pairs, a factor on
//! logits. The second generation has a rotary embedding only where attention sees a window.
//!
//! Source: Cohere Team, "Command A: An Enterprise-Ready Large Language Model" (2025); transformers' documentation of both.

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const COHERE: Family =
    Family { gguf: &["command-r"], model_types: &["cohere"], describe, layout: Layout::new(&[&LLAMA]) };

pub(super) const COHERE2: Family =
    Family { gguf: &["cohere2"], model_types: &["cohere2"], describe: describe_2, layout: COHERE.layout };

/// In the second generation every fourth layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 4;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let has_norms = model.has_qk_norm("use_qk_norm")?;
    let attention = Attention { qk_norm: has_norms.then_some(QkNorm::EachHead), ..model.attention()? };
    let rope = model.rope(RopePairs::Interleaved, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    architecture.wire(Wiring::Parallel);
    architecture.logit_scale = model.float("logit_scale")?.unwrap_or(1.0);
    Ok(architecture)
}

fn describe_2(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = describe(model)?;
    let window = model.count("attention.sliding_window")?;
    architecture.slide(&model.sliding_but_every(GLOBAL_EVERY)?, window, [Some(0), None]);
    Ok(architecture)
}
