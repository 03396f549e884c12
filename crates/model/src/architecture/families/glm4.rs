//! GLM-4 9B in the form of transformers, and GLM-4-0414, which has norms behind the blocks as well: biases on queries, keys and
//! values, half of each head rotated, gate and up fused.
//!
//! Source: GLM Team, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools" (2024).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Wiring;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const GLM: Family =
    Family { gguf: &[], model_types: &["glm"], describe, layout: Layout::new(&[&LLAMA]) };

pub(super) const GLM4: Family = Family {
    gguf: &["glm4"],
    model_types: &["glm4"],
    describe: describe_0414,
    layout: Layout::new(&[&NAMES_0414, &LLAMA]),
};

const NAMES_0414: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[("post_attention_norm", "post_self_attn_layernorm"), ("post_ffw_norm", "post_mlp_layernorm")],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Interleaved, attention.key_dim)?;
    model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)
}

fn describe_0414(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = describe(model)?;
    architecture.wire(Wiring::Sandwich);
    Ok(architecture)
}
