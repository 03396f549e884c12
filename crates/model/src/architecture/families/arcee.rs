//! Arcee (AFM): as Llama, with networks of squared rectified units without a gate.
//!
//! Source: Arcee AI, "Announcing the Arcee Foundation Model Family" (2025).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["arcee"], model_types: &["arcee"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    model.uniform(model.rms_norm()?, attention, vec![rope], model.plain_mlp(Activation::SquaredRelu)?)
}
