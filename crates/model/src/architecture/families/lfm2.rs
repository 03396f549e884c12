//! LFM2, dense and as a mixture of experts, and LFM3: gated convolutions over a few tokens in most layers, attention with norms on
//! queries and keys in the others. LFM3 has a gate on each head of attention and norms behind the blocks as well.
//!
//! Source: Liquid AI, "LFM2 Technical Report" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{
    Attention, AttentionGate, Experts, GatedConvolution, Mlp, QkNorm, RouterScores, Routing, Wiring,
};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const LFM2: Family = Family {
    gguf: &["lfm2", "lfm2moe"],
    model_types: &["lfm2", "lfm2_moe"],
    describe,
    layout: Layout {
        aliases: &[("output_norm", "token_embd_norm")],
        ..Layout::new(&[&OF_LFM2, &NAMES, &LLAMA])
    },
};

pub(super) const LFM3: Family = Family {
    gguf: &[],
    model_types: &["lfm3"],
    describe: describe_3,
    layout: Layout::new(&[&NAMES, &LLAMA]),
};

const OF_LFM2: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_q_norm", "self_attn.q_layernorm"),
        ("attn_k_norm", "self_attn.k_layernorm"),
        ("attn_output", "self_attn.out_proj"),
    ],
};

const NAMES: Names = Names {
    model: &[("output_norm", "model.embedding_norm"), ("token_embd_norm", "model.embedding_norm")],
    layers: "model.layers",
    layer: &[
        ("attn_norm", "operator_norm"),
        ("post_attention_norm", "post_operator_norm"),
        ("attn_gate", "self_attn.gate_proj"),
        ("shortconv.in_proj", "conv.in_proj"),
        ("shortconv.conv", "conv.conv"),
        ("shortconv.out_proj", "conv.out_proj"),
        ("ffn_norm", "ffn_norm"),
        ("post_ffw_norm", "post_ffn_norm"),
        ("ffn_gate", "feed_forward.w1"),
        ("ffn_up", "feed_forward.w3"),
        ("ffn_down", "feed_forward.w2"),
        ("ffn_gate_inp", "feed_forward.gate"),
        ("ffn_gate_exps", "feed_forward.experts.{}.w1"),
        ("ffn_up_exps", "feed_forward.experts.{}.w3"),
        ("ffn_down_exps", "feed_forward.experts.{}.w2"),
        ("exp_probs_b", "=feed_forward.expert"),
    ],
};

/// Every third layer or so has attention; files say which.
const ATTENTION_EVERY: usize = 3;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Heads), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let network = Mlp::gated(network_size(model)?, Activation::Silu);
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], network.into())?;
    let (width, taps) = (architecture.hidden_size, model.taps("shortconv.l_cache")?);
    let has_attention = model.attention_layers(ATTENTION_EVERY)?;
    architecture.replace_attention(&has_attention, &GatedConvolution { width, taps }.into());
    if model.optional_count("expert_count")?.is_some() {
        let dense = model.number("leading_dense_block_count")?.unwrap_or(0);
        let size = model.count("expert_feed_forward_length")?;
        let experts = model.experts(size, model.flag("expert_weights_norm")?.unwrap_or(true))?;
        let routing = Routing {
            scores: RouterScores::Sigmoid,
            bias: model.flag("use_expert_bias")?.unwrap_or(true),
            scale: model.float("expert_weights_scale")?.unwrap_or(1.0),
            ..experts.routing
        };
        architecture.sparse(&Experts { routing, ..experts }, |index| index >= dense);
    }
    Ok(architecture)
}

/// The width of networks. `config.json` may give another, of which two thirds are taken and rounded up.
fn network_size(model: &Hyperparameters<'_>) -> Result<usize, LoadError> {
    let size = match model.number("block_ff_dim")? {
        Some(size) => size,
        None => model.count("feed_forward_length")?,
    };
    if !model.flag("block_auto_adjust_ff_dim")?.unwrap_or(false) {
        return Ok(size);
    }
    let multiplier = f64::from(model.float("block_ffn_dim_multiplier")?.unwrap_or(1.0));
    let size = (multiplier * (2 * size / 3) as f64) as usize;
    Ok(size.next_multiple_of(model.optional_count("block_multiple_of")?.unwrap_or(1)))
}

fn describe_3(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let mut architecture = describe(model)?;
    architecture.wire(Wiring::Sandwich);
    if model.flag("use_attention_gate")?.unwrap_or(true) {
        architecture.attention_mut().for_each(|attention| attention.gate = Some(AttentionGate::OfHeads));
    }
    Ok(architecture)
}
