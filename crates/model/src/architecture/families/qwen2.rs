//! Qwen2 and Qwen2.5: as Llama, with biases on queries, keys and values, and rotary pairs in halves.
//!
//! Source: Yang et al., "Qwen2 Technical Report" (2024).

use lookahead_kernels::{Activation, RopePairs, Window};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["qwen2"], model_types: &["qwen2"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    slide(model, &mut architecture)?;
    Ok(architecture)
}

/// The layers from `max_window_layers` on see a window, if `use_sliding_window` says so: `layer_types` in newer files.
pub(super) fn slide(model: &Hyperparameters<'_>, architecture: &mut Architecture) -> Result<(), LoadError> {
    if model.flag("use_sliding_window")? != Some(true) {
        return Ok(());
    }
    let window = model.count("attention.sliding_window")?;
    let first = model.optional_count("max_window_layers")?.unwrap_or(0);
    let slides = model.sliding_layers()?;
    for (index, attention) in architecture.attention_mut().enumerate() {
        if slides.as_ref().map_or(index >= first, |slides| slides[index]) {
            attention.window = Some(Window::Sliding(window));
        }
    }
    Ok(())
}
