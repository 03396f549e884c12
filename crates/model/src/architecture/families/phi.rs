//! Phi 1, 1.5 and 2: attention and network side by side behind one norm, a part of each head rotated, biases everywhere.
//!
//! Source: Li et al., "Textbooks Are All You Need II: phi-1.5" (2023).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["phi2"], model_types: &["phi"], describe, layout: Layout::new(&[&NAMES, &LLAMA]) };

const NAMES: Names = Names {
    model: &[("output_norm", "model.final_layernorm")],
    layers: "model.layers",
    layer: &[
        ("attn_output", "self_attn.dense"),
        ("attn_q_norm", "self_attn.q_layernorm"),
        ("attn_k_norm", "self_attn.k_layernorm"),
        ("ffn_up", "mlp.fc1"),
        ("ffn_down", "mlp.fc2"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let qk_norm = model.flag("qk_layernorm")?.unwrap_or(false).then_some(QkNorm::Heads);
    let attention = Attention { qk_norm, ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, vec![rope], model.plain_mlp(Activation::GeluTanh)?)?;
    architecture.wire(Wiring::Parallel);
    Ok(architecture)
}
