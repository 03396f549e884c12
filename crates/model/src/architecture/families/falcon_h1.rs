//! Falcon-H1: Mamba 2 and attention side by side in each layer, then a network.
//!
//! Source: Falcon-LLM Team, "Falcon-H1: A Family of Hybrid-Head Language Models" (2025). GGUF files hold weights with the model's factors
//! multiplied in already.

use lookahead_kernels::{Activation, RopePairs};

use super::mamba2;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Input, Layer, Recurrence, RecurrenceGate, Wiring};
use crate::architecture::model::Architecture;
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

/// Factors of checkpoints.
const FACTORS: [&str; 9] = [
    "attention_in_multiplier",
    "attention_out_multiplier",
    "embedding_multiplier",
    "key_multiplier",
    "lm_head_multiplier",
    "mlp_multipliers",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "ssm_out_multiplier",
];

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    if let Some(name) = FACTORS.into_iter().find(|name| !model.is_one(name)) {
        return Err(model.invalid(name, "1: GGUF files of this family have such factors in their weights"));
    }
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
    let mixers =
        [Recurrence { gate, ..recurrence }.into(), attention.into(), model.gated_mlp(Activation::Silu)?];
    let mut layer = Layer::new(mixers, Wiring::PreNorm);
    layer.blocks[1].input = Input::Shared;
    model.stack(model.rms_norm()?, vec![rope], vec![layer; model.count("block_count")?])
}
