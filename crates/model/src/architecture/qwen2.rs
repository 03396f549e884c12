//! Qwen2 and Qwen2.5: as Llama, with biases on queries, keys and values, and rotary pairs in halves.
//!
//! Source: Yang et al., "Qwen2 Technical Report" (2024).

use lookahead_kernels::{Activation, RopePairs};

use super::Architecture;
use super::hyperparameters::Hyperparameters;
use crate::LoadError;

pub(super) fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.head_dim)?;
    model.uniform(&attention, rope, Activation::Silu)
}
