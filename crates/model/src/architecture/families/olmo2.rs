//! OLMo 2: norms behind the blocks only, and on all of queries and keys.
//!
//! Source: OLMo Team, "2 OLMo 2 Furious" (2024).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, POST_NORMS};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["olmo2"],
    model_types: &["olmo2"],
    describe,
    layout: Layout::new(&[&POST_NORMS, &LLAMA]),
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Whole), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    architecture.wire(Wiring::PostNorm);
    Ok(architecture)
}
