//! Gemma 3 (text): norms before and after each block and on queries and keys, GeGLU, scaled embeddings; five of six
//! layers see a sliding window, with a rotary base of their own.
//!
//! Source: Gemma Team, "Gemma 3 Technical Report" (2025). GGUF files hold norm weights with the 1 added already.

use lookahead_kernels::{Activation, RopePairs};

use super::hyperparameters::Hyperparameters;
use super::{Architecture, Rope};
use crate::LoadError;

/// Every sixth layer sees everything. Files rarely say so.
const GLOBAL_EVERY: usize = 6;
/// Rotary base of the sliding layers. Files rarely say so.
const LOCAL_ROPE_BASE: f32 = 10_000.0;
/// The 27B model, known by its layers, scales queries by its width per head instead of the head's dimensions.
const LAYERS_OF_27B: usize = 62;

pub(super) fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut attention = model.attention()?;
    attention.qk_norm = true;
    let global = model.rope(RopePairs::Halves, attention.head_dim)?;
    let local_base = model.float("rope.freq_base_swa")?.unwrap_or(LOCAL_ROPE_BASE);
    let local = Rope { base: f64::from(local_base), position_scale: 1.0, ..global.clone() };
    let window = model.count("attention.sliding_window")?;

    let mut architecture = model.uniform(&attention, global, Activation::GeluTanh)?;
    architecture.embedding_scale = (architecture.hidden_size as f32).sqrt();
    architecture.ropes.push(local);
    let layers = architecture.layers.len();
    if layers == LAYERS_OF_27B {
        attention.scale = 1.0 / ((architecture.hidden_size / attention.heads) as f32).sqrt();
    }
    let slides = model
        .layer_flags("attention.sliding_window_pattern")?
        .unwrap_or_else(|| (1..=layers).map(|layer| !layer.is_multiple_of(GLOBAL_EVERY)).collect());
    for (layer, slides) in architecture.layers.iter_mut().zip(slides) {
        layer.post_norms = true;
        layer.attention = attention.clone();
        if slides {
            layer.attention.rope = 1;
            layer.attention.window = Some(window);
        }
    }
    Ok(architecture)
}
