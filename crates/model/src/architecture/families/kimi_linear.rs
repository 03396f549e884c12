//! Kimi Linear: Kimi delta attention in three of four layers, latent attention that knows no positions in the others, experts in the
//! manner of DeepSeek V3.
//!
//! Source: Kimi Team, "Kimi Linear: An Expressive, Efficient Attention Architecture" (2025).

use lookahead_kernels::Activation;
use serde_json::Value;

use super::deepseek::{self, LATENT};
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Decay, Recurrence, RecurrenceGate, RouterScores, UpdateRule};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["kimi-linear"],
    model_types: &["kimi_linear"],
    describe,
    layout: Layout { aliases: ALIASES, ..Layout::new(&[&NAMES, &LATENT, &LLAMA]) },
};

/// Transformers saves networks under the name of experts. What follows the recurrence goes by the name of what follows attention.
const ALIASES: &[(&str, &str)] = &[
    ("ffn_gate", "dense_gate"),
    ("ffn_up", "dense_up"),
    ("ffn_down", "dense_down"),
    ("ssm_out", "attn_output"),
];

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("ssm_conv1d_q", "self_attn.q_conv1d"),
        ("ssm_conv1d_k", "self_attn.k_conv1d"),
        ("ssm_conv1d_v", "self_attn.v_conv1d"),
        ("ssm_f_a", "self_attn.f_a_proj"),
        ("ssm_f_b", "self_attn.f_b_proj"),
        ("ssm_beta", "self_attn.b_proj"),
        ("ssm_g_a", "self_attn.g_a_proj"),
        ("ssm_g_b", "self_attn.g_b_proj"),
        ("ssm_dt", "=self_attn.dt"),
        ("ssm_a", "=self_attn.A_log"),
        ("ssm_norm", "self_attn.o_norm"),
        ("dense_gate", "block_sparse_moe.gate_proj"),
        ("dense_up", "block_sparse_moe.up_proj"),
        ("dense_down", "block_sparse_moe.down_proj"),
        ("ffn_gate_inp", "block_sparse_moe.gate"),
        ("exp_probs_b", "=block_sparse_moe.gate.e_score_correction"),
        ("ffn_gate_exps", "block_sparse_moe.experts.{}.w1"),
        ("ffn_up_exps", "block_sparse_moe.experts.{}.w3"),
        ("ffn_down_exps", "block_sparse_moe.experts.{}.w2"),
        ("ffn_gate_shexp", "block_sparse_moe.shared_experts.gate_proj"),
        ("ffn_up_shexp", "block_sparse_moe.shared_experts.up_proj"),
        ("ffn_down_shexp", "block_sparse_moe.shared_experts.down_proj"),
    ],
};

/// The object of `config.json` that describes the recurrence, where it stands apart.
const APART: &str = "linear_attn_config";

/// Every fourth layer has attention, where files do not say.
const ATTENTION_EVERY: usize = 4;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = deepseek::describe(model, RouterScores::Sigmoid)?;
    architecture.latent_mut().for_each(|attention| attention.rope = None);
    architecture.ropes.clear();
    if model.flag("expert_weights_norm")?.is_none() {
        // GGUF files do not say: all of the family's normalise.
        architecture.experts_mut().for_each(|experts| experts.routing.normalised = true);
    }
    let has_attention = match model.within(APART, "full_attn_layers") {
        None => model.attention_layers(ATTENTION_EVERY)?,
        // Counted from 1.
        Some(layers) => {
            let layers: Vec<u64> =
                layers.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            (1..=architecture.layers.len() as u64).map(|layer| layers.contains(&layer)).collect()
        }
    };
    architecture.replace_attention(&has_attention, &delta_attention(model, Decay::OfKeys)?.into());
    Ok(architecture)
}

/// Kimi delta attention.
pub(super) fn delta_attention(model: &Hyperparameters<'_>, decay: Decay) -> Result<Recurrence, LoadError> {
    let within = |name| model.within(APART, name).and_then(Value::as_u64).map(|number| number as usize);
    let heads = match within("num_heads").or(model.number("linear_num_heads")?) {
        Some(heads) => heads,
        None => model.count("attention.head_count")?,
    };
    let head_dim = match within("head_dim").or(model.number("kda.head_dim")?) {
        Some(head_dim) => head_dim,
        None => model.count("head_dim")?,
    };
    let taps = match within("short_conv_kernel_size") {
        Some(taps) => model.taps_of("ssm.conv_kernel", taps)?,
        None => model.taps("ssm.conv_kernel")?,
    };
    if heads == 0 || head_dim == 0 {
        return Err(model.invalid("attention.head_count", "heads of some dimensions"));
    }
    Ok(Recurrence {
        heads,
        key_heads: heads,
        interleaved: false,
        key_dim: head_dim,
        value_dim: head_dim,
        taps,
        rule: UpdateRule::Delta,
        decay,
        gate: RecurrenceGate {
            activation: Activation::Sigmoid,
            norm_groups: Some(heads),
            norm_is_behind: false,
        },
    })
}
