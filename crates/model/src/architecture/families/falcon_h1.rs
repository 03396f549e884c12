//! Falcon-H1: Mamba 2 and attention side by side in each layer, then a network.
//!
//! Source: Falcon-LLM Team, "Falcon-H1: A Family of Hybrid-Head Language Models" (2025). There are factors on what matrices make; GGUF files
//! have them in the weights.

use lookahead_kernels::{Activation, RopePairs};

use super::mamba2;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Input, Layer, Mixer, Mlp, Recurrence, RecurrenceGate, Wiring};
use crate::architecture::model::{Architecture, OutputFactor};
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["falcon-h1"],
    model_types: &["falcon_h1"],
    describe,
    layout: Layout {
        aliases: &[("ffn_norm", "=ffn_norm")],
        ..Layout::new(&[&NAMES, &mamba2::IN_LAYERS, &LLAMA])
    },
};

const NAMES: Names = Names {
    model: &[("output_norm", "model.final_layernorm")],
    layers: "model.layers",
    layer: &[
        ("ffn_norm", "pre_ff_layernorm"),
        ("ffn_gate", "feed_forward.gate_proj"),
        ("ffn_up", "feed_forward.up_proj"),
        ("ffn_down", "feed_forward.down_proj"),
    ],
};

/// What a bias would be multiplied with or not, as the model's code has it: no model that is known has both.
const BIASES: [&str; 4] = ["attention_bias", "mlp_bias", "projectors_bias", "mamba_proj_bias"];

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let recurrence = mamba2::recurrence(model)?;
    let is_normalised = if model.is_gguf() {
        model.has_tensor("ssm_norm")
    } else {
        model.flag("mamba_rms_norm")?.unwrap_or(false)
    };
    let gate = RecurrenceGate {
        norm_groups: recurrence.gate.norm_groups.filter(|_| is_normalised),
        norm_is_behind: !model.flag("mamba_norm_before_gate")?.unwrap_or(false),
        ..recurrence.gate
    };
    let mlp = Mlp::gated(model.count("feed_forward_length")?, Activation::Silu);
    let factors = output_factors(model, &attention, &recurrence, &mlp)?;
    let mixers = [Recurrence { gate, ..recurrence }.into(), attention.into(), Mixer::Dense(mlp)];
    let mut layer = Layer::new(mixers, Wiring::PreNorm);
    layer.blocks[1].input = Input::Shared;
    let mut architecture =
        model.stack(model.rms_norm()?, vec![rope], vec![layer; model.count("block_count")?])?;
    architecture.embedding.scale = factor(model, "embedding_multiplier")?;
    architecture.logit_scale = factor(model, "lm_head_multiplier")?;
    architecture.output_factors = factors;
    Ok(architecture)
}

/// A factor of checkpoints.
fn factor(model: &Hyperparameters<'_>, name: &str) -> Result<f32, LoadError> {
    Ok(model.float(name)?.unwrap_or(1.0))
}

/// The factors within layers that are not 1. Those on what blocks are given are on what their first matrices make as well.
fn output_factors(
    model: &Hyperparameters<'_>,
    attention: &Attention,
    recurrence: &Recurrence,
    mlp: &Mlp,
) -> Result<Vec<OutputFactor>, LoadError> {
    let hidden = model.count("embedding_length")?;
    let &Attention { heads, kv_heads, key_dim, value_dim, .. } = attention;
    let &Recurrence { heads: states, key_heads, value_dim: state_values, key_dim: state_keys, .. } =
        recurrence;
    let (width, keys) = (states * state_values, key_heads * state_keys);
    let [gate, down] = model.factors("mlp_multipliers")?;
    let recurrent: [f32; 5] = model.factors("ssm_multipliers")?;
    let (seen, key) = (factor(model, "attention_in_multiplier")?, factor(model, "key_multiplier")?);
    let fed = factor(model, "ssm_in_multiplier")?;
    let mut factors = vec![
        ("attn_q", heads * key_dim, seen),
        ("attn_k", kv_heads * key_dim, seen * key),
        ("attn_v", kv_heads * value_dim, seen),
        ("attn_output", hidden, factor(model, "attention_out_multiplier")?),
        ("ssm_out", hidden, factor(model, "ssm_out_multiplier")?),
        ("ffn_gate", mlp.size, gate),
        ("ffn_down", hidden, down),
    ]
    .into_iter()
    .map(|(part, rows, factor)| OutputFactor { part, rows: 0..rows, factor })
    .collect::<Vec<_>>();
    // Gates, values, keys, queries, steps.
    let mut start = 0;
    for (rows, factor) in [width, width, keys, keys, states].into_iter().zip(recurrent) {
        factors.push(OutputFactor { part: "ssm_in", rows: start..start + rows, factor: fed * factor });
        start += rows;
    }
    factors.retain(|factor| factor.factor != 1.0);
    for bias in BIASES {
        if !factors.is_empty() && model.flag(bias)?.unwrap_or(false) {
            return Err(model.invalid(bias, "false in a model with multipliers"));
        }
    }
    Ok(factors)
}
