//! OPT: learned positions from row 2 on, ReLU.
//!
//! Source: Zhang et al., "OPT: Open Pre-trained Transformer Language Models" (2022). OPT-350M is built otherwise.

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::{Architecture, Norm, NormKind};
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &[], model_types: &["opt"], describe, layout: Layout::new(&[&NAMES, &LLAMA]) };

const NAMES: Names = Names {
    model: &[
        ("token_embd", "model.decoder.embed_tokens"),
        ("position_embd", "model.decoder.embed_positions"),
        ("output_norm", "model.decoder.final_layer_norm"),
    ],
    layers: "model.decoder.layers",
    layer: &[
        ("attn_norm", "self_attn_layer_norm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.out_proj"),
        ("ffn_norm", "final_layer_norm"),
        ("ffn_up", "fc1"),
        ("ffn_down", "fc2"),
    ],
};

/// The first two rows of the table of positions belong to none.
const FIRST_POSITION: usize = 2;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    if model.flag("do_layer_norm_before")? == Some(false) {
        return Err(model.invalid("do_layer_norm_before", "true (OPT-350M is not supported)"));
    }
    let attention = model.attention_without_rope()?;
    let norm =
        Norm { kind: NormKind::Layer, epsilon: model.float("attention.layer_norm_epsilon")?.unwrap_or(1e-5) };
    let mut architecture = model.uniform(norm, attention, Vec::new(), model.plain_mlp(Activation::Relu)?)?;
    if model.optional_count("word_embed_proj_dim")?.is_some_and(|width| width != architecture.hidden_size) {
        return Err(model.invalid("word_embed_proj_dim", "the same as hidden_size"));
    }
    architecture.embedding.first_position = Some(FIRST_POSITION);
    Ok(architecture)
}
