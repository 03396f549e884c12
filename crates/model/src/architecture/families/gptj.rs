//! GPT-J: attention and network side by side behind one norm, a quarter of each head rotated.
//!
//! Source: Wang and Komatsuzaki, "GPT-J-6B" (2021).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Wiring;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &[], model_types: &["gptj"], describe, layout: Layout::new(&[&NAMES]) };

const NAMES: Names = Names {
    model: &[("token_embd", "transformer.wte"), ("output_norm", "transformer.ln_f"), ("output", "lm_head")],
    layers: "transformer.h",
    layer: &[
        ("attn_norm", "ln_1"),
        ("attn_q", "attn.q_proj"),
        ("attn_k", "attn.k_proj"),
        ("attn_v", "attn.v_proj"),
        ("attn_output", "attn.out_proj"),
        ("ffn_up", "mlp.fc_in"),
        ("ffn_down", "mlp.fc_out"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Interleaved, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, vec![rope], model.plain_mlp(Activation::GeluTanh)?)?;
    architecture.wire(Wiring::Parallel);
    Ok(architecture)
}
