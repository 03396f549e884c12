//! Qwen3-Next and Qwen3.5, dense and as a mixture of experts: Gated DeltaNet in three of four layers, gated attention in the
//! others.
//!
//! Sources: Qwen Team, "Qwen3-Next" (2025), "Qwen3.5" (2026).

use lookahead_kernels::{Activation, RopePairs};

use super::qwen2_moe::sparse_layers;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{
    Attention, AttentionGate, Decay, Experts, Mlp, QkNorm, Recurrence, RecurrenceGate, SharedExpert,
    UpdateRule,
};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, NORM_BY_PLACE, Names};
use crate::load_error::LoadError;

pub(super) const NEXT: Family = Family {
    gguf: &["qwen3next"],
    model_types: &["qwen3_next"],
    describe: |model| describe(model, false),
    layout: LAYOUT,
};

/// In its GGUF files heads of values that share keys do not follow one another.
pub(super) const QWEN3_5: Family = Family {
    gguf: &["qwen35", "qwen35moe"],
    model_types: &["qwen3_5_text", "qwen3_5", "qwen3_5_moe_text", "qwen3_5_moe"],
    describe: |model| describe(model, model.is_gguf()),
    layout: LAYOUT,
};

const LAYOUT: Layout =
    Layout { aliases: NORM_BY_PLACE, norms_minus_one: true, ..Layout::new(&[&LINEAR_ATTENTION, &LLAMA]) };

const LINEAR_ATTENTION: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_qkv", "linear_attn.in_proj_qkv"),
        ("attn_gate", "linear_attn.in_proj_z"),
        ("ssm_in", "linear_attn.in_proj_qkvz"),
        ("ssm_ba", "linear_attn.in_proj_ba"),
        ("ssm_alpha", "linear_attn.in_proj_a"),
        ("ssm_beta", "linear_attn.in_proj_b"),
        ("ssm_conv1d", "linear_attn.conv1d"),
        ("ssm_dt", "=linear_attn.dt"),
        ("ssm_a", "=linear_attn.A_log"),
        ("ssm_norm", "linear_attn.norm"),
        ("ssm_out", "linear_attn.out_proj"),
    ],
};

/// Every fourth layer has attention, where files do not say.
const ATTENTION_EVERY: usize = 4;

fn describe(model: &Hyperparameters<'_>, interleaved: bool) -> Result<Architecture, LoadError> {
    let attention =
        Attention { qk_norm: Some(QkNorm::Heads), gate: Some(AttentionGate::OfValues), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let is_sparse = model.optional_count("expert_count")?.is_some();
    let size = if is_sparse { model.expert_width()? } else { model.count("feed_forward_length")? };
    let dense = Mlp::gated(size, Activation::Silu);
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense.into())?;
    let gate = RecurrenceGate { activation: Activation::Silu, norm_groups: None, norm_is_behind: false };
    let recurrence = model.recurrence(UpdateRule::Delta, Decay::OfHeads, gate)?;
    let gate = RecurrenceGate { norm_groups: Some(recurrence.heads), ..gate };
    let recurrence = Recurrence { interleaved, gate, ..recurrence };
    architecture.replace_attention(&model.attention_layers(ATTENTION_EVERY)?, &recurrence.into());
    if is_sparse {
        let experts = model.experts(size, model.flag("expert_weights_norm")?.unwrap_or(true))?;
        let mlp = Mlp { size: model.count("expert_shared_feed_forward_length")?, ..experts.expert };
        let shared = Some(SharedExpert { mlp, gated: true });
        sparse_layers(model, &mut architecture, &Experts { shared, ..experts })?;
    }
    Ok(architecture)
}
