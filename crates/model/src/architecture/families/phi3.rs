//! Phi 3, 3.5 and 4: as Llama, with fused matrices and LongRoPE.
//!
//! Sources: Abdin et al., "Phi-3 Technical Report" (2024); Ding et al., "LongRoPE" (2024). LongRoPE has factors for contexts
//! within the original length and others for longer ones; here a model that was trained for longer ones always takes the
//! latter, so that the logits of a token do not depend on what comes after it.

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::rope::{Rope, RopeFactors};
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["phi3"], model_types: &["phi3"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.sliding_attention()?;
    let rope = rope(model, attention.key_dim)?;
    model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)
}

/// The rotary embedding, with the factors of LongRoPE if it has them.
pub(super) fn rope(model: &Hyperparameters<'_>, key_dim: usize) -> Result<Rope, LoadError> {
    let mut rope = model.rope(RopePairs::Halves, key_dim)?;
    if model.is_gguf() {
        let context = model.count("context_length")?;
        let original = model.optional_count("rope.scaling.original_context_length")?.unwrap_or(context);
        let tensor = if context > original { "rope_factors_long" } else { "rope_factors_short" };
        rope.factors = RopeFactors::Tensor(tensor);
    }
    Ok(rope)
}
