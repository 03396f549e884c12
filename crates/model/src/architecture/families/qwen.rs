//! Qwen (the first): as Llama with queries, keys and values in one matrix with a bias. Beyond the trained context the published
//! code changes rotary base and attention; here the context ends there.
//!
//! Source: Bai et al., "Qwen Technical Report" (2023); the models' published code (`modeling_qwen.py`).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Mixer, Mlp};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["qwen"], model_types: &["qwen"], describe, layout: Layout::new(&[&NAMES]) };

const NAMES: Names = Names {
    model: &[("token_embd", "transformer.wte"), ("output_norm", "transformer.ln_f"), ("output", "lm_head")],
    layers: "transformer.h",
    layer: &[
        ("attn_norm", "ln_1"),
        ("attn_qkv", "attn.c_attn"),
        ("attn_output", "attn.c_proj"),
        ("ffn_norm", "ln_2"),
        ("ffn_up", "mlp.w1"),
        ("ffn_gate", "mlp.w2"),
        ("ffn_down", "mlp.c_proj"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    // Files give the width of both halves, gate and up.
    let size = model.count("feed_forward_length")? / 2;
    let feed_forward = Mixer::Dense(Mlp::gated(size, Activation::Silu));
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], feed_forward)?;
    if let Some(trained) = model.optional_count("seq_length")? {
        architecture.context_length = trained;
    }
    Ok(architecture)
}
