//! StableLM 2 and StableLM Epoch: as Llama with layer norms and a quarter of each head rotated; the 12B model has attention and
//! network side by side, and norms on each head of queries and keys.
//!
//! Source: Bellagente et al., "Stable LM 2 1.6B Technical Report" (2024).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["stablelm"],
    model_types: &["stablelm"],
    describe,
    layout: Layout::new(&[&NAMES, &LLAMA]),
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_q_norm", "self_attn.q_layernorm.norms.{}"),
        ("attn_k_norm", "self_attn.k_layernorm.norms.{}"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let has_norms = model.has_qk_norm("qk_layernorm")?;
    let attention = Attention { qk_norm: has_norms.then_some(QkNorm::EachHead), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    let parallel = match model.flag("use_parallel_residual")? {
        // GGUF files always say true; those that are parallel have no second norm.
        _ if model.is_gguf() => !model.has_tensor("ffn_norm"),
        parallel => parallel.unwrap_or(false),
    };
    if parallel {
        architecture.wire(Wiring::Parallel);
    }
    Ok(architecture)
}
