//! Mamba 2: each layer is one recurrence, whose state takes the place of attention.
//!
//! Source: Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality"
//! (2024).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Decay, Layer, Recurrence, RecurrenceGate, UpdateRule, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["mamba2"], model_types: &["mamba2"], describe, layout: Layout::new(&[&NAMES]) };

/// Names where it is a layer's only mixer.
pub(super) const NAMES: Names = Names {
    model: &[
        ("token_embd", "backbone.embeddings"),
        ("output_norm", "backbone.norm_f"),
        ("output", "lm_head"),
    ],
    layers: "backbone.layers",
    layer: &[
        ("attn_norm", "norm"),
        ("ssm_in", "mixer.in_proj"),
        ("ssm_conv1d", "mixer.conv1d"),
        ("ssm_dt", "=mixer.dt"),
        ("ssm_a", "=mixer.A_log"),
        ("ssm_d", "=mixer.D"),
        ("ssm_norm", "mixer.norm"),
        ("ssm_out", "mixer.out_proj"),
    ],
};

/// Names where it is one of several mixers.
pub(super) const IN_LAYERS: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("ssm_in", "mamba.in_proj"),
        ("ssm_conv1d", "mamba.conv1d"),
        ("ssm_dt", "=mamba.dt"),
        ("ssm_a", "=mamba.A_log"),
        ("ssm_d", "=mamba.D"),
        ("ssm_norm", "mamba.norm"),
        ("ssm_out", "mamba.out_proj"),
    ],
};

/// What GGUF files say of all models: nothing in them ends anywhere.
const CONTEXT: usize = 1 << 20;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let layer = Layer::new([recurrence(model)?.into()], Wiring::PreNorm);
    let layers = vec![layer; model.count("block_count")?];
    let architecture = model.stack(model.rms_norm()?, Vec::new(), layers)?;
    let context_length = model.optional_count("context_length")?.unwrap_or(CONTEXT);
    Ok(Architecture { context_length, ..architecture })
}

/// The recurrence: what is read is gated, and then normalised in as many parts as there are heads of keys.
///
/// # Errors
/// If steps are limited.
pub(super) fn recurrence(model: &Hyperparameters<'_>) -> Result<Recurrence, LoadError> {
    model.steps_are_unlimited()?;
    let gate = RecurrenceGate { activation: Activation::Silu, norm_groups: None, norm_is_behind: true };
    let recurrence = model.recurrence(UpdateRule::Step, Decay::OfHeads, gate)?;
    let gate = RecurrenceGate { norm_groups: Some(recurrence.key_heads), ..gate };
    Ok(Recurrence { gate, ..recurrence })
}
