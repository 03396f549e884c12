//! Falcon 7B, 11B, 40B, 180B: attention and network side by side, behind one norm or each behind its own; one head of keys, or
//! one to a group.
//!
//! Source: Almazrouei et al., "The Falcon Series of Open Language Models" (2023).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Wiring;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{FusedQkv, LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["falcon"],
    model_types: &["falcon", "RefinedWeb", "RefinedWebModel"],
    describe,
    layout: Layout {
        qkv: FusedQkv::ByGroup,
        aliases: &[("attn_norm", "attn_norm_2"), ("ffn_norm", "attn_norm")],
        ..Layout::new(&[&NAMES, &LLAMA])
    },
};

const NAMES: Names = Names {
    model: &[("token_embd", "transformer.word_embeddings"), ("output_norm", "transformer.ln_f")],
    layers: "transformer.h",
    layer: &[
        ("attn_norm_2", "ln_attn"),
        ("attn_norm", "input_layernorm"),
        ("ffn_norm", "ln_mlp"),
        ("attn_qkv", "self_attention.query_key_value"),
        ("attn_output", "self_attention.dense"),
        ("ffn_up", "mlp.dense_h_to_4h"),
        ("ffn_down", "mlp.dense_4h_to_h"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    for (name, wanted) in [("alibi", false), ("parallel_attn", true)] {
        if model.flag(name)?.is_some_and(|value| value != wanted) {
            let expected = if wanted {
                "true (Falcon-RW is not supported)"
            } else {
                "false (Falcon-RW is not supported)"
            };
            return Err(model.invalid(name, expected));
        }
    }
    let attention = if model.is_gguf() {
        model.attention()?
    } else {
        let heads = model.count("attention.head_count")?;
        let groups = model.flag("new_decoder_architecture")?.unwrap_or(false);
        let kv_heads = match model.flag("multi_query")? {
            _ if groups => model.optional_count("num_kv_heads")?.unwrap_or(heads),
            Some(false) => heads,
            _ => 1,
        };
        model.attention_of(heads, kv_heads)?
    };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, vec![rope], model.plain_mlp(Activation::Gelu)?)?;
    let wiring = if model.has_tensor("attn_norm_2") { Wiring::ParallelNorms } else { Wiring::Parallel };
    architecture.wire(wiring);
    Ok(architecture)
}
