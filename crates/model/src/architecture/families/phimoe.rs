//! Phi 3.5 MoE: as Phi 3 with layer norms, and two of several experts chosen one after the other.
//!
//! Source: Abdin et al., "Phi-3 Technical Report" (2024).

use super::llama::MIXTRAL;
use super::phi3;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Experts, Mixer, RouterScores, Routing};
use crate::architecture::model::{Architecture, Norm, NormKind};
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["phimoe"],
    model_types: &["phimoe"],
    describe,
    layout: Layout::new(&[&MIXTRAL, &LLAMA]),
};

/// The jitter of routers, where files do not say.
const JITTER: f32 = 0.01;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.sliding_attention()?;
    let mut rope = phi3::rope(model, attention.key_dim)?;
    // One choice for all contexts, as of the factors.
    let context = model.count("context_length")? as f64;
    let original = model.rope_number("full_attention", "original_max_position_embeddings")?;
    if let Some(original) = original {
        let name = if context > original { "long_mscale" } else { "short_mscale" };
        rope.magnitude = model.rope_number("full_attention", name)?.unwrap_or(rope.magnitude);
    }
    let experts = model.experts(model.expert_width()?, false)?;
    let tolerance = 2.0 * model.float("router_jitter_noise")?.unwrap_or(JITTER);
    let routing = Routing { scores: RouterScores::OneByOne { tolerance }, ..experts.routing };
    // Called that of root-mean-square norms by files of both kinds.
    let norm = Norm { kind: NormKind::Layer, ..model.rms_norm()? };
    model.uniform(norm, attention, vec![rope], Mixer::Experts(Experts { routing, ..experts }))
}
