//! Gemma 1, 2 and 3 (text): scaled embeddings, GeGLU. Gemma 2 adds norms behind the blocks, soft caps, and a sliding window in
//! every second layer; Gemma 3 has norms on queries and keys instead of caps, and five of six layers see a window, with a
//! rotary base of their own.
//!
//! Sources: Gemma Team, "Gemma" (2024), "Gemma 2" (2024), "Gemma 3 Technical Report" (2025). GGUF files hold norm weights
//! with the 1 added already.

use lookahead_kernels::{Activation, RopePairs, Window};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::rope::Rope;
use crate::architecture::tensor_names::{LLAMA, Layout, POST_NORMS};
use crate::load_error::LoadError;

pub(super) const GEMMA: Family = Family {
    gguf: &["gemma"],
    model_types: &["gemma"],
    describe: describe_1,
    layout: Layout { norms_minus_one: true, ..Layout::new(&[&LLAMA]) },
};

pub(super) const GEMMA2: Family = Family {
    gguf: &["gemma2"],
    model_types: &["gemma2"],
    describe: describe_2,
    layout: Layout { norms_minus_one: true, ..Layout::new(&[&POST_NORMS, &LLAMA]) },
};

pub(super) const GEMMA3: Family = Family {
    gguf: &["gemma3"],
    model_types: &["gemma3_text", "gemma3"],
    describe: describe_3,
    layout: Layout { norms_minus_one: true, ..Layout::new(&[&POST_NORMS, &LLAMA]) },
};

/// In Gemma 3 every sixth layer sees everything. Files rarely say so.
const GLOBAL_EVERY: usize = 6;
/// Rotary base of the sliding layers of Gemma 3 and 3n. Files rarely say so.
const LOCAL_ROPE_BASE: f32 = 10_000.0;
/// The 27B models of Gemma 2 and 3, known by their layers, scale queries by their width per head instead of the head's
/// dimensions. Checkpoints say so.
const LAYERS_OF_27B: [usize; 2] = [46, 62];

fn describe_1(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::GeluTanh)?)?;
    architecture.embedding.scale = (architecture.hidden_size as f32).sqrt();
    Ok(architecture)
}

/// What Gemma 2 and 3 share.
fn with_post_norms(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = describe_1(model)?;
    let (layers, hidden) = (architecture.layers.len(), architecture.hidden_size);
    architecture.wire(Wiring::Sandwich);
    let scalar = match model.float("query_pre_attn_scalar")? {
        Some(scalar) => Some(scalar),
        None if LAYERS_OF_27B.contains(&layers) => {
            Some((hidden / model.count("attention.head_count")?) as f32)
        }
        None => None,
    };
    if let Some(scalar) = scalar {
        architecture.attention_mut().for_each(|attention| attention.scale = 1.0 / scalar.sqrt());
    }
    Ok(architecture)
}

fn describe_2(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = with_post_norms(model)?;
    architecture.logit_cap = model.float("final_logit_softcapping")?;
    let (cap, window) = (model.float("attn_logit_softcapping")?, model.count("attention.sliding_window")?);
    let slides = model.sliding_layers()?;
    for (index, attention) in architecture.attention_mut().enumerate() {
        attention.soft_cap = cap;
        let slides = slides.as_ref().map_or(index.is_multiple_of(2), |slides| slides[index]);
        attention.window = slides.then_some(Window::Sliding(window));
    }
    Ok(architecture)
}

fn describe_3(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = with_post_norms(model)?;
    let local = local_rope(model, &architecture.ropes[0])?;
    architecture.ropes.push(local);
    let window = model.count("attention.sliding_window")?;
    let slides = model.sliding_layers()?;
    for (index, attention) in architecture.attention_mut().enumerate() {
        attention.qk_norm = Some(QkNorm::Heads);
        if slides.as_ref().map_or(!(index + 1).is_multiple_of(GLOBAL_EVERY), |slides| slides[index]) {
            attention.rope = Some(1);
            attention.window = Some(Window::Sliding(window));
        }
    }
    Ok(architecture)
}

/// The rotary embedding of layers that see a window: that of the others with a base of its own.
pub(super) fn local_rope(model: &Hyperparameters<'_>, global: &Rope) -> Result<Rope, LoadError> {
    let local_base = if model.is_gguf() {
        model.float("rope.freq_base_swa")?
    } else {
        let head_dim = model.attention()?.key_dim;
        let local = model.config_rope(RopePairs::Halves, head_dim, "sliding_attention")?;
        let older = model.float("rope_local_base_freq")?;
        older.or(model.has_field("rope_parameters").then_some(local.base as f32))
    };
    let base = f64::from(local_base.unwrap_or(LOCAL_ROPE_BASE));
    Ok(Rope { base, position_scale: 1.0, ..global.clone() })
}
