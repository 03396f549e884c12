//! InternLM2 and 2.5: as Llama, with queries, keys and values in one matrix, a group of heads after the other. (InternLM 1 is a
//! Llama with biases.)
//!
//! Source: Cai et al., "InternLM2 Technical Report" (2024).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{FusedQkv, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["internlm2"],
    model_types: &["internlm2"],
    describe,
    layout: Layout { qkv: FusedQkv::ByGroup, ..Layout::new(&[&NAMES]) },
};

const NAMES: Names = Names {
    model: &[("token_embd", "model.tok_embeddings"), ("output_norm", "model.norm"), ("output", "output")],
    layers: "model.layers",
    layer: &[
        ("attn_norm", "attention_norm"),
        ("attn_qkv", "attention.wqkv"),
        ("attn_output", "attention.wo"),
        ("ffn_norm", "ffn_norm"),
        ("ffn_gate", "feed_forward.w1"),
        ("ffn_up", "feed_forward.w3"),
        ("ffn_down", "feed_forward.w2"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)
}
