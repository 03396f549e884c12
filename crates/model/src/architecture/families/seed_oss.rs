//! Seed-OSS: as Llama, with biases on queries, keys and values.
//!
//! Source: ByteDance Seed Team, "Seed-OSS Open-Source Models" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, NORM_BY_PLACE};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["seed_oss"],
    model_types: &["seed_oss"],
    describe,
    layout: Layout { aliases: NORM_BY_PLACE, ..Layout::new(&[&LLAMA]) },
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)
}
