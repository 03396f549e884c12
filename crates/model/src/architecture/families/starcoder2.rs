//! StarCoder2: layer norms, biases everywhere, a network without a gate.
//!
//! Source: Lozhkov et al., "StarCoder 2 and The Stack v2" (2024).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["starcoder2"],
    model_types: &["starcoder2"],
    describe,
    layout: Layout::new(&[&NAMES, &LLAMA]),
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[("ffn_up", "mlp.c_fc"), ("ffn_down", "mlp.c_proj")],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.sliding_attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    model.uniform(model.layer_norm()?, attention, vec![rope], model.plain_mlp(Activation::GeluTanh)?)
}
