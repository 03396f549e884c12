//! Granite 3, dense and as a mixture of experts: as Llama, with factors on embeddings, attention, what blocks add, and logits. In
//! Granite 4 most layers have Mamba 2 in place of attention, which knows no positions then.
//!
//! Sources: Granite Team, "Granite 3.0 Language Models" (2024); IBM, "Granite 4.0" (2025).

use lookahead_kernels::Activation;

use super::mamba2;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Experts, Mixer, Mlp, SharedExpert};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["granite", "granitemoe"],
    model_types: &["granite", "granitemoe", "granitemoeshared"],
    describe,
    layout: Layout::new(&[&EXPERTS, &LLAMA]),
};

pub(super) const HYBRID: Family = Family {
    gguf: &["granitehybrid"],
    model_types: &["granitemoehybrid"],
    describe: describe_hybrid,
    layout: Layout::new(&[&EXPERTS, &NETWORK_OF_HYBRIDS, &mamba2::IN_LAYERS, &LLAMA]),
};

/// What is a shared expert beside others is the network where there are none.
const NETWORK_OF_HYBRIDS: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[("ffn_gate_up", "shared_mlp.input_linear"), ("ffn_down", "shared_mlp.output_linear")],
};

/// Layers that have attention in Granite 4, where files do not say.
const ATTENTION_EVERY: usize = 10;

const EXPERTS: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("ffn_gate_inp", "block_sparse_moe.router.layer"),
        ("ffn_gate_up_exps", "block_sparse_moe.input_linear"),
        ("ffn_down_exps", "block_sparse_moe.output_linear"),
        ("ffn_gate_up_shexp", "shared_mlp.input_linear"),
        ("ffn_down_shexp", "shared_mlp.output_linear"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut attention = model.attention()?;
    attention.scale = model.float("attention.scale")?.unwrap_or(attention.scale);
    let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
    let feed_forward = match model.number("expert_count")? {
        None | Some(0) => {
            let size = match model.number("expert_shared_feed_forward_length")? {
                None | Some(0) => model.count("feed_forward_length")?,
                Some(size) => size,
            };
            Mlp::gated(size, Activation::Silu).into()
        }
        Some(_) => {
            let experts = model.experts(model.count("feed_forward_length")?, true)?;
            let size = model.number("expert_shared_feed_forward_length")?.unwrap_or(0);
            let mlp = Mlp { size, ..experts.expert };
            let shared = (size > 0).then_some(SharedExpert { mlp, gated: false });
            Mixer::Experts(Experts { shared, ..experts })
        }
    };
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], feed_forward)?;
    architecture.embedding.scale = model.float("embedding_scale")?.unwrap_or(1.0);
    architecture.residual_scale = model.float("residual_scale")?.unwrap_or(1.0);
    architecture.logit_scale = 1.0 / model.float("logit_scale")?.unwrap_or(1.0);
    Ok(architecture)
}

fn describe_hybrid(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = describe(model)?;
    let has_attention = model.attention_layers(ATTENTION_EVERY)?;
    if has_attention.contains(&false) {
        architecture.replace_attention(&has_attention, &mamba2::recurrence(model)?.into());
    }
    let turns = if model.is_gguf() {
        model.flag("rope.scaling.finetuned")?.unwrap_or(true)
    } else {
        model.text("position_embedding_type")? == Some("rope")
    };
    if !turns {
        architecture.attention_mut().for_each(|attention| attention.rope = None);
    }
    Ok(architecture)
}
