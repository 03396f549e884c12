//! Llama 1, 2 and 3, Mistral, SmolLM2: RMSNorm, rotary embeddings over interleaved pairs, grouped queries, SwiGLU.
//!
//! Sources: Touvron et al., "Llama 2" (2023); Jiang et al., "Mistral 7B" (2023). GGUF files hold queries and keys
//! permuted, so that pairs are neighbours; Llama 3's frequency factors are the tensor `rope_freqs.weight`.

use lookahead_kernels::{Activation, RopePairs};

use super::hyperparameters::Hyperparameters;
use super::{Architecture, Attention};
use crate::LoadError;

pub(super) fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    if model.optional_count("expert_count").is_ok_and(|experts| experts.is_some()) {
        return Err(model.invalid("expert_count", "no experts (mixtures of experts are not supported yet)"));
    }
    let window = model.optional_count("attention.sliding_window")?;
    let attention = Attention { window, ..model.attention()? };
    let rope = model.rope(RopePairs::Interleaved, attention.head_dim)?;
    model.uniform(&attention, rope, Activation::Silu)
}
