//! Ling 1 and 2: experts beside shared ones, chosen by probability, or as DeepSeek V3 does. Ling 3: Kimi delta attention whose decay is bounded in most layers, latent attention with a gate on each head in the others,
//! experts in the manner of DeepSeek V3.
//!
//! Sources: Ling Team, "Every FLOP Counts" (2025), "Every Activation Boosted" (2025), "Ling 3" (2026).

use lookahead_kernels::{Activation, RopePairs};

use super::deepseek::{self, LATENT};
use super::kimi_linear::delta_attention;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Decay, QkNorm, RouterScores};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{DEEPSEEK_EXPERTS, LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const LING1: Family = Family {
    gguf: &["bailingmoe"],
    model_types: &["bailing_moe", "bailing_moe_v2"],
    describe: |model| describe_softmax_attention(model, model.permuted_pairs()),
    layout: FUSED,
};

/// Checkpoints name it as they name the first.
pub(super) const LING2: Family = Family {
    gguf: &["bailingmoe2"],
    model_types: &[],
    describe: |model| describe_softmax_attention(model, RopePairs::Halves),
    layout: FUSED,
};

const FUSED: Layout = Layout::new(&[&FUSED_NAMES, &NAMES, &DEEPSEEK_EXPERTS, &LLAMA]);

const FUSED_NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_qkv", "attention.query_key_value"),
        ("attn_q_norm", "attention.query_layernorm"),
        ("attn_k_norm", "attention.key_layernorm"),
    ],
};

pub(super) const LING3: Family = Family {
    gguf: &["bailingmoe3"],
    model_types: &["bailing_hybrid"],
    describe,
    layout: Layout {
        aliases: &[("ssm_out", "attn_output")],
        ..Layout::new(&[&NAMES, &LATENT, &DEEPSEEK_EXPERTS, &LLAMA])
    },
};

const NAMES: Names = Names {
    model: &[("token_embd", "model.word_embeddings")],
    layers: "model.layers",
    layer: &[
        ("attn_q", "attention.q_proj"),
        ("attn_q_a", "attention.q_a_proj"),
        ("attn_q_a_norm", "attention.q_a_layernorm"),
        ("attn_q_b", "attention.q_b_proj"),
        ("attn_k", "attention.k_proj"),
        ("attn_v", "attention.v_proj"),
        ("attn_kv_a_mqa", "attention.kv_a_proj_with_mqa"),
        ("attn_kv_a_norm", "attention.kv_a_layernorm"),
        ("attn_kv_b", "attention.kv_b_proj"),
        ("attn_gate", "attention.g_proj"),
        ("attn_output", "attention.dense"),
        ("ssm_conv1d_q", "attention.q_conv1d"),
        ("ssm_conv1d_k", "attention.k_conv1d"),
        ("ssm_conv1d_v", "attention.v_conv1d"),
        ("ssm_f_a", "attention.f_proj"),
        ("ssm_beta", "attention.b_proj"),
        ("ssm_g_a", "attention.g_proj"),
        ("ssm_dt", "=attention.dt"),
        ("ssm_a", "=attention.A_log"),
        ("ssm_norm", "attention.o_norm"),
        ("exp_probs_b", "=mlp.gate.expert"),
    ],
};

/// Every so many layers have attention, where files do not say.
const ATTENTION_EVERY: usize = 6;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = deepseek::describe(model, RouterScores::Sigmoid)?;
    architecture.latent_mut().for_each(|attention| attention.gated = true);
    let decay = match model.flag("kda.safe_gate")? {
        Some(false) => Decay::OfKeys,
        None | Some(true) => Decay::OfKeysWithin(model.negative("kda.gate_lower_bound")?),
    };
    let has_attention = model.attention_layers(ATTENTION_EVERY)?;
    architecture.replace_attention(&has_attention, &delta_attention(model, decay)?.into());
    Ok(architecture)
}

/// Ling 1 and 2.
fn describe_softmax_attention(
    model: &Hyperparameters<'_>,
    pairs: RopePairs,
) -> Result<Architecture, LoadError> {
    if model.flag("norm_head")?.unwrap_or(false) {
        return Err(model.invalid("norm_head", "false: GGUF files have such heads normalised"));
    }
    let qk_norm = model.has_qk_norm("use_qk_norm")?.then_some(QkNorm::Heads);
    let attention = Attention { qk_norm, ..model.attention()? };
    let rope = model.rope(pairs, attention.key_dim)?;
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    let first = model.number("leading_dense_block_count")?.unwrap_or(0);
    let mut experts = model.deepseek_experts(scores(model)?)?;
    experts.routing.bias &= if model.is_gguf() {
        model.has_tensor_in(first, "exp_probs_b", "bias")
    } else {
        model.flag("moe_router_enable_expert_bias")?.unwrap_or(true)
    };
    architecture.sparse(&experts, |layer| layer >= first);
    Ok(architecture)
}

fn scores(model: &Hyperparameters<'_>) -> Result<RouterScores, LoadError> {
    if model.is_gguf() {
        return deepseek::scores(model);
    }
    match model.text("score_function")? {
        None | Some("softmax") => Ok(RouterScores::Softmax),
        Some("sigmoid") => Ok(RouterScores::Sigmoid),
        Some(_) => Err(model.invalid("score_function", "softmax or sigmoid")),
    }
}
