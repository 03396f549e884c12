//! GPT-NeoX, Pythia: attention and network side by side, each behind its norm; a part of each head rotated.
//!
//! Source: Black et al., "GPT-NeoX-20B" (2022).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Wiring;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{FusedQkv, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["gptneox"],
    model_types: &["gpt_neox"],
    describe,
    layout: Layout { qkv: FusedQkv::ByGroup, ..Layout::new(&[&NAMES]) },
};

const NAMES: Names = Names {
    model: &[
        ("token_embd", "gpt_neox.embed_in"),
        ("output_norm", "gpt_neox.final_layer_norm"),
        ("output", "embed_out"),
    ],
    layers: "gpt_neox.layers",
    layer: &[
        ("attn_norm", "input_layernorm"),
        ("attn_qkv", "attention.query_key_value"),
        ("attn_output", "attention.dense"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_up", "mlp.dense_h_to_4h"),
        ("ffn_down", "mlp.dense_4h_to_h"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, vec![rope], model.plain_mlp(Activation::Gelu)?)?;
    if model.flag("use_parallel_residual")?.unwrap_or(true) {
        architecture.wire(Wiring::ParallelNorms);
    }
    Ok(architecture)
}
