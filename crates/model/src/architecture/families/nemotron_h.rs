//! Nemotron-H, and Nemotron 3 as a mixture of experts: layers of one block each, which is Mamba 2, attention that knows no positions, a
//! network with squared ReLU, or experts that are such networks, in the manner of DeepSeek V3.
//!
//! Sources: NVIDIA, "Nemotron-H: A Family of Accurate and Efficient Hybrid Mamba-Transformer Models" (2025), "Nemotron 3 Nano" (2025).

use lookahead_kernels::Activation;

use super::mamba2;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Experts, Layer, Mixer, Mlp, RouterScores, SharedExpert, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["nemotron_h", "nemotron_h_moe"],
    model_types: &["nemotron_h"],
    describe,
    layout: Layout { aliases: &[("ffn_norm", "attn_norm")], ..Layout::new(&[&NAMES, &mamba2::NAMES]) },
};

const NAMES: Names = Names {
    model: &[],
    layers: "backbone.layers",
    layer: &[
        ("attn_q", "mixer.q_proj"),
        ("attn_k", "mixer.k_proj"),
        ("attn_v", "mixer.v_proj"),
        ("attn_output", "mixer.o_proj"),
        ("ffn_up", "mixer.up_proj"),
        ("ffn_down", "mixer.down_proj"),
        ("ffn_gate_inp", "mixer.gate"),
        ("exp_probs_b", "=mixer.gate.e_score_correction"),
        ("ffn_up_exps", "mixer.experts.{}.up_proj"),
        ("ffn_down_exps", "mixer.experts.{}.down_proj"),
        ("ffn_up_shexp", "mixer.shared_experts.up_proj"),
        ("ffn_down_shexp", "mixer.shared_experts.down_proj"),
    ],
};

/// What a layer is.
#[derive(Clone, Copy)]
enum Kind {
    Recurrence,
    Attention,
    Network,
    Experts,
}

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let recurrence = mamba2::recurrence(model)?;
    let (attention, network) = (model.attention_without_rope()?, model.plain_mlp(Activation::SquaredRelu)?);
    let layer = |kind| {
        let mixer: Mixer = match kind {
            Kind::Recurrence => recurrence.clone().into(),
            Kind::Attention => attention.clone().into(),
            Kind::Network => network.clone(),
            Kind::Experts => Mixer::Experts(experts(model)?),
        };
        Ok(Layer::new([mixer], Wiring::PreNorm))
    };
    let layers = kinds(model)?.into_iter().map(layer).collect::<Result<_, LoadError>>()?;
    model.stack(model.rms_norm()?, Vec::new(), layers)
}

/// Experts without gates, beside a shared one of a width of its own.
fn experts(model: &Hyperparameters<'_>) -> Result<Experts, LoadError> {
    let latent = "moe_latent_size";
    if model.number(latent)?.is_some() {
        return Err(model.invalid(latent, "none: experts of a width of their own are not supported"));
    }
    let experts = model.deepseek_experts(RouterScores::Sigmoid)?;
    let expert = Mlp { activation: Activation::SquaredRelu, gated: false, ..experts.expert };
    let mlp = Mlp { size: model.count("expert_shared_feed_forward_length")?, ..expert };
    Ok(Experts { expert, shared: Some(SharedExpert { mlp, gated: false }), ..experts })
}

/// A letter for each layer.
const PATTERN: &str = "hybrid_override_pattern";
/// A name for each layer.
const KINDS: &str = "layers_block_type";

/// What each layer is: in `config.json` by name, or by a letter; in GGUF files by what it has.
fn kinds(model: &Hyperparameters<'_>) -> Result<Vec<Kind>, LoadError> {
    if model.is_gguf() {
        let [heads, networks] = ["attention.head_count_kv", "feed_forward_length"].map(|name| {
            model.layer_numbers(name)?.ok_or_else(|| model.invalid(name, "a number for each layer"))
        });
        let kind = |(layer, (heads, network))| match (heads, network) {
            (1.., _) => Kind::Attention,
            (0, 1..) if model.has_tensor_in(layer, "ffn_gate_inp", "weight") => Kind::Experts,
            (0, 1..) => Kind::Network,
            (0, 0) => Kind::Recurrence,
        };
        return Ok(heads?.into_iter().zip(networks?).enumerate().map(kind).collect());
    }
    if let Some(pattern) = model.text(PATTERN)? {
        let kind = |letter| match letter {
            'M' => Ok(Kind::Recurrence),
            '*' => Ok(Kind::Attention),
            '-' => Ok(Kind::Network),
            'E' => Ok(Kind::Experts),
            _ => Err(model.invalid(PATTERN, "letters M, *, - and E")),
        };
        return pattern.chars().map(kind).collect();
    }
    let names = model.names(KINDS)?.ok_or_else(|| model.invalid(KINDS, "a name for each layer"))?;
    let kind = |name| match name {
        "mamba" | "linear_attention" => Ok(Kind::Recurrence),
        "attention" | "full_attention" => Ok(Kind::Attention),
        "mlp" => Ok(Kind::Network),
        "moe" => Ok(Kind::Experts),
        _ => Err(model.invalid(KINDS, "mamba, attention, mlp and moe")),
    };
    names.into_iter().map(kind).collect()
}
