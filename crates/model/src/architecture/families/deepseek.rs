//! DeepSeek V2, V2-Lite, V3 and R1, GLM-4.7-Flash: latent attention; experts beside shared ones behind the first layers.
//!
//! Sources: DeepSeek-AI, "DeepSeek-V2" (2024), "DeepSeek-V3 Technical Report" (2024); GLM-4.7-Flash's published description.

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{LatentAttention, RouterScores};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{DEEPSEEK_EXPERTS, LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const V2: Family = Family {
    gguf: &[],
    model_types: &["deepseek_v2"],
    describe: |model| describe(model, RouterScores::Softmax),
    layout: LAYOUT,
};

pub(super) const V3: Family = Family {
    gguf: &["deepseek2"],
    model_types: &["deepseek_v3", "glm4_moe_lite"],
    describe: |model| describe(model, scores(model)?),
    layout: LAYOUT,
};

const LAYOUT: Layout = Layout::new(&[&LATENT, &DEEPSEEK_EXPERTS, &LLAMA]);

pub(super) const LATENT: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_q_a", "self_attn.q_a_proj"),
        ("attn_q_a_norm", "self_attn.q_a_layernorm"),
        ("attn_q_b", "self_attn.q_b_proj"),
        ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
        ("attn_kv_a_norm", "self_attn.kv_a_layernorm"),
        ("attn_kv_b", "self_attn.kv_b_proj"),
    ],
};

/// By the number that GGUF files have for it; in those that have none, by whether experts have a bias.
pub(super) fn scores(model: &Hyperparameters<'_>) -> Result<RouterScores, LoadError> {
    let has_bias = || {
        let mut layers = 0..model.count("block_count")?;
        Ok::<_, LoadError>(layers.any(|layer| model.has_tensor_in(layer, "exp_probs_b", "bias")))
    };
    match model.number("expert_gating_func")? {
        _ if !model.is_gguf() => Ok(RouterScores::Sigmoid),
        None | Some(0) if has_bias()? => Ok(RouterScores::Sigmoid),
        None | Some(0 | 1) => Ok(RouterScores::Softmax),
        Some(2) => Ok(RouterScores::Sigmoid),
        Some(_) => Err(model.invalid("expert_gating_func", "1 (softmax) or 2 (sigmoid)")),
    }
}

pub(super) fn describe(model: &Hyperparameters<'_>, scores: RouterScores) -> Result<Architecture, LoadError> {
    let rope_dim = model.count(if model.is_gguf() { "rope.dimension_count" } else { "qk_rope_head_dim" })?;
    let (query_dim, value_dim) = dimensions(model, rope_dim)?;
    let pairs = match model.flag("rope_interleave")? {
        Some(false) => RopePairs::Halves,
        None | Some(true) => RopePairs::Interleaved,
    };
    let mut rope = model.rope(pairs, rope_dim)?;
    if model.is_gguf() {
        rope.magnitude = 1.0;
    }
    let attention = LatentAttention {
        heads: model.count("attention.head_count")?,
        query_rank: model.number("attention.q_lora_rank")?.filter(|&rank| rank > 0),
        rank: model.count("attention.kv_lora_rank")?,
        plain_dim: query_dim - rope_dim,
        rope_dim,
        value_dim,
        scale: attention_scale(model)? / (query_dim as f32).sqrt(),
        rope: Some(0),
        gated: false,
    };
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    if model.optional_count("expert_count")?.is_some() {
        let kinds = model.names("mlp_layer_types")?;
        let first = model.number("leading_dense_block_count")?.unwrap_or(0);
        let is_sparse = |layer: usize| match kinds.as_ref().and_then(|kinds| kinds.get(layer)) {
            // Some files miscount the layers without experts.
            _ if model.is_gguf() => model.has_tensor_in(layer, "ffn_gate_inp", "weight"),
            Some(&kind) => kind == "sparse",
            None => layer >= first,
        };
        architecture.sparse(&model.deepseek_experts(scores)?, is_sparse);
    }
    Ok(architecture)
}

/// Dimensions of a head's query and of its value.
fn dimensions(model: &Hyperparameters<'_>, rope_dim: usize) -> Result<(usize, usize), LoadError> {
    let (query_dim, value_dim) = if model.is_gguf() {
        // Files for the absorbed form give those of the latent row as well.
        let of = |latent, plain| match model.optional_count(latent)? {
            Some(count) => Ok(count),
            None => model.count(plain),
        };
        (
            of("attention.key_length_mla", "attention.key_length")?,
            of("attention.value_length_mla", "attention.value_length")?,
        )
    } else {
        (model.count("qk_nope_head_dim")? + rope_dim, model.count("v_head_dim")?)
    };
    if query_dim <= rope_dim {
        return Err(model.invalid("attention.key_length", "more dimensions than are turned"));
    }
    Ok((query_dim, value_dim))
}

/// With YaRN, attention is scaled for longer contexts.
fn attention_scale(model: &Hyperparameters<'_>) -> Result<f32, LoadError> {
    let (factor, weight) = if model.is_gguf() {
        let weight = model.float("rope.scaling.yarn_log_multiplier")?.map(|weight| f64::from(weight) / 0.1);
        (model.float("rope.scaling.factor")?.map(f64::from), weight)
    } else {
        let number = |name| model.rope_number("full_attention", name);
        (number("factor")?, number("mscale_all_dim")?)
    };
    let root = match (factor, weight) {
        (Some(factor), Some(weight)) if factor > 1.0 => 0.1 * weight * libm::log(factor) + 1.0,
        _ => 1.0,
    };
    Ok((root * root) as f32)
}
