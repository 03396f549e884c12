//! Nemotron and Minitron: layer norms stored without their 1, half of each head rotated, networks of squared rectified units
//! without a gate.
//!
//! Source: Parmar et al., "Nemotron-4 15B Technical Report" (2024).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["nemotron"],
    model_types: &["nemotron"],
    describe,
    layout: Layout { norms_minus_one: true, ..Layout::new(&[&LLAMA]) },
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    model.uniform(model.layer_norm()?, attention, vec![rope], model.plain_mlp(Activation::SquaredRelu)?)
}
