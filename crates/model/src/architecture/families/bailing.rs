//! Ling 3: Kimi delta attention whose decay is bounded in most layers, latent attention with a gate on each head in the others,
//! experts in the manner of DeepSeek V3.
//!
//! Source: Ling Team, "Ling 3" (2026).

use super::deepseek::{self, LATENT};
use super::kimi_linear::delta_attention;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Decay, RouterScores};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{DEEPSEEK_EXPERTS, LLAMA, Layout, Names};
use crate::load_error::LoadError;

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
