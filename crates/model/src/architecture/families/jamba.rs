//! Jamba: Mamba 1, with norms on what it selects, in most layers, attention that knows no positions in the others; experts in every second
//! layer or so.
//!
//! Source: Lieber et al., "Jamba: A Hybrid Transformer-Mamba Language Model" (2024).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::SelectiveScan;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["jamba"], model_types: &["jamba"], describe, layout: Layout::new(&[&NAMES, &LLAMA]) };

const NAMES: Names = Names {
    model: &[("output_norm", "model.final_layernorm")],
    layers: "model.layers",
    layer: &[
        ("ssm_in", "mamba.in_proj"),
        ("ssm_conv1d", "mamba.conv1d"),
        ("ssm_x", "mamba.x_proj"),
        ("ssm_dt", "mamba.dt_proj"),
        ("ssm_dt_norm", "mamba.dt_layernorm"),
        ("ssm_b_norm", "mamba.b_layernorm"),
        ("ssm_c_norm", "mamba.c_layernorm"),
        ("ssm_a", "=mamba.A_log"),
        ("ssm_d", "=mamba.D"),
        ("ssm_out", "mamba.out_proj"),
        ("ffn_norm", "pre_ff_layernorm"),
        ("ffn_gate", "feed_forward.gate_proj"),
        ("ffn_up", "feed_forward.up_proj"),
        ("ffn_down", "feed_forward.down_proj"),
        ("ffn_gate_inp", "feed_forward.router"),
        ("ffn_gate_exps", "feed_forward.experts.{}.gate_proj"),
        ("ffn_up_exps", "feed_forward.experts.{}.up_proj"),
        ("ffn_down_exps", "feed_forward.experts.{}.down_proj"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let (attention, dense) = (model.attention_without_rope()?, model.gated_mlp(Activation::Silu)?);
    let mut architecture = model.uniform(model.rms_norm()?, attention, Vec::new(), dense)?;
    let width = match model.optional_count("ssm.inner_size")? {
        Some(width) => width,
        None => model.count("mamba_expand")? * architecture.hidden_size,
    };
    let scan = SelectiveScan {
        width,
        states: model.count("ssm.state_size")?,
        rank: model.count(if model.is_gguf() { "ssm.time_step_rank" } else { "mamba_dt_rank" })?,
        taps: model.taps("ssm.conv_kernel")?,
    };
    let layers = architecture.layers.len();
    let has_attention = match model.layer_numbers("attention.head_count_kv")? {
        Some(heads) => heads.into_iter().map(|heads| heads > 0).collect(),
        None => every(model, ["attn_layer_period", "attn_layer_offset"], layers)?,
    };
    if has_attention.len() != layers {
        return Err(model.invalid("attention.head_count_kv", "as many entries as there are layers"));
    }
    architecture.replace_attention(&has_attention, &scan.into());
    if model.number("expert_count")?.is_some_and(|count| count > 1) {
        let experts = model.experts(model.count("feed_forward_length")?, false)?;
        if model.is_gguf() {
            architecture.sparse(&experts, |layer| model.has_tensor_in(layer, "ffn_gate_inp", "weight"));
        } else {
            let sparse = every(model, ["expert_layer_period", "expert_layer_offset"], layers)?;
            architecture.sparse(&experts, |layer| sparse[layer]);
        }
    }
    Ok(architecture)
}

/// Of each of so many layers, whether it is the `offset`th of a `period`.
fn every(model: &Hyperparameters<'_>, names: [&str; 2], layers: usize) -> Result<Vec<bool>, LoadError> {
    let (period, offset) = (model.count(names[0])?, model.number(names[1])?.unwrap_or(0));
    Ok((0..layers).map(|layer| layer % period == offset).collect())
}
