//! ChatGLM2, ChatGLM3 and GLM-4 9B in their own form: grouped queries in one matrix, biases on it, half of each head rotated,
//! gate and up in one matrix.
//!
//! Source: the models' published code (`modeling_chatglm.py`); GLM Team, "ChatGLM" (2024).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::rope::Rope;
use crate::architecture::tensor_names::{Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["chatglm"], model_types: &["chatglm"], describe, layout: Layout::new(&[&NAMES]) };

const NAMES: Names = Names {
    model: &[
        ("token_embd", "transformer.embedding.word_embeddings"),
        ("output_norm", "transformer.encoder.final_layernorm"),
        ("output", "transformer.output_layer"),
    ],
    layers: "transformer.encoder.layers",
    layer: &[
        ("attn_norm", "input_layernorm"),
        ("attn_qkv", "self_attention.query_key_value"),
        ("attn_output", "self_attention.dense"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate_up", "mlp.dense_h_to_4h"),
        ("ffn_down", "mlp.dense_4h_to_h"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = if model.is_gguf() {
        model.attention()?
    } else {
        for (name, wanted) in [("rmsnorm", true), ("apply_residual_connection_post_layernorm", false)] {
            if model.flag(name)?.is_some_and(|value| value != wanted) {
                return Err(model.invalid(name, "what all published models of the family have"));
            }
        }
        let heads = model.count("attention.head_count")?;
        let groups = match model.flag("multi_query_attention")? {
            Some(true) => model.count("multi_query_group_num")?,
            _ => heads,
        };
        model.attention_of(heads, groups)?
    };
    let mut rope = model.rope(RopePairs::Interleaved, attention.key_dim)?;
    if !model.is_gguf() {
        let ratio = f64::from(model.float("rope_ratio")?.unwrap_or(1.0));
        let dimensions = model.rope_dimensions(attention.key_dim / 2, attention.key_dim)?;
        rope = Rope { dimensions, base: 10_000.0 * ratio, ..rope };
    }
    model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)
}
