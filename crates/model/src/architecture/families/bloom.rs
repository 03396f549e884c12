//! BLOOM: ALiBi instead of positions, embeddings normalised, biases everywhere.
//!
//! Source: BigScience Workshop, "BLOOM" (2022).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Attention;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{FusedQkv, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["bloom"],
    model_types: &["bloom"],
    describe,
    layout: Layout { qkv: FusedQkv::ByGroup, ..Layout::new(&[&NAMES]) },
};

const NAMES: Names = Names {
    model: &[
        ("token_embd", "transformer.word_embeddings"),
        ("token_embd_norm", "transformer.word_embeddings_layernorm"),
        ("output_norm", "transformer.ln_f"),
    ],
    layers: "transformer.h",
    layer: &[
        ("attn_norm", "input_layernorm"),
        ("attn_qkv", "self_attention.query_key_value"),
        ("attn_output", "self_attention.dense"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_up", "mlp.dense_h_to_4h"),
        ("ffn_down", "mlp.dense_4h_to_h"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    if model.flag("apply_residual_connection_post_layernorm")? == Some(true) {
        return Err(model.invalid("apply_residual_connection_post_layernorm", "false"));
    }
    let attention = Attention { alibi: true, ..model.attention_without_rope()? };
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, Vec::new(), model.plain_mlp(Activation::GeluTanh)?)?;
    architecture.embedding.norm = true;
    Ok(architecture)
}
