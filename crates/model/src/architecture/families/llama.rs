//! Llama 1, 2 and 3, Mistral, Mixtral, SmolLM2, InternLM 1 and 3: RMSNorm, rotary embeddings, grouped queries, SwiGLU; in Mixtral two
//! experts of several.
//!
//! Sources: Touvron et al., "Llama 2" (2023); Jiang et al., "Mistral 7B" (2023), "Mixtral of Experts" (2024). GGUF files hold
//! queries and keys permuted, so that pairs are neighbours; Llama 3's frequency factors are the tensor `rope_freqs.weight`.

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Mixer;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["llama"],
    model_types: &["llama", "mistral", "mixtral", "internlm", "internlm3"],
    describe,
    layout: Layout::new(&[&MIXTRAL, &LLAMA]),
};

pub(super) const MIXTRAL: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("ffn_gate_inp", "block_sparse_moe.gate"),
        ("ffn_gate_exps", "block_sparse_moe.experts.{}.w1"),
        ("ffn_up_exps", "block_sparse_moe.experts.{}.w3"),
        ("ffn_down_exps", "block_sparse_moe.experts.{}.w2"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.sliding_attention()?;
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    let feed_forward = match model.optional_count("expert_count")? {
        None => model.gated_mlp(Activation::Silu)?,
        Some(_) => Mixer::Experts(model.experts(model.count("feed_forward_length")?, true)?),
    };
    model.uniform(model.rms_norm()?, attention, vec![rope], feed_forward)
}
