//! Gemma 4 (text): as Gemma 3 with norms stored whole, values normalised too, larger heads where attention sees everything, of
//! which a part is turned, and a learned factor behind each layer. Small models have an input of each layer's own for each token, and
//! their last layers see the keys and values of earlier ones; large ones have values that are keys. As a mixture of experts, each layer has
//! experts beside its network, each with norms of its own, and their sum is normalised.
//!
//! Source: Gemma Team, "Gemma 4" (2026), the models' published description.

use lookahead_kernels::{Activation, RopePairs, Window};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{
    Attention, Block, Experts, Input, KeysAndValues, Mixer, Mlp, PerLayer, QkNorm, StreamScale, Wiring,
};
use crate::architecture::model::Architecture;
use crate::architecture::rope::{Rope, RopeFactors};
use crate::architecture::tensor_names::{LLAMA, Layout, Names, PER_LAYER, POST_NORMS};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["gemma4"],
    model_types: &["gemma4", "gemma4_text"],
    describe,
    layout: Layout::new(&[&PER_LAYER, &FACTORS, &BESIDE_EXPERTS, &POST_NORMS, &LLAMA]),
};

const BESIDE_EXPERTS: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("post_ffw_norm_1", "post_feedforward_layernorm_1"),
        ("pre_ffw_norm_2", "pre_feedforward_layernorm_2"),
        ("post_ffw_norm_2", "post_feedforward_layernorm_2"),
        ("ffn_gate_inp", "router.proj"),
        ("ffn_gate_inp.scale", "=router.scale"),
        ("ffn_gate_up_exps", "=experts.gate_up_proj"),
        ("ffn_down_exps", "=experts.down_proj"),
        ("ffn_down_exps.scale", "=router.per_expert_scale"),
    ],
};

const FACTORS: Names =
    Names { model: &[], layers: "model.layers", layer: &[("layer_output_scale", "=layer_scalar")] };

/// Every sixth layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 6;
/// Dimensions of a head there, where checkpoints do not say.
const GLOBAL_HEAD_DIM: usize = 512;
/// The share of them that is turned, where checkpoints do not say.
const TURNED_SHARE: f64 = 0.25;
/// Rotary bases of both kinds of layers, where files do not say.
const LOCAL_BASE: f64 = 10_000.0;
const GLOBAL_BASE: f64 = 1_000_000.0;

const ACTIVATION: Activation = Activation::GeluTanh;

/// What differs between layers that see a window and those that see everything.
struct Kind {
    attention: Attention,
    rope: Rope,
}

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let slides = model.sliding_but_every(GLOBAL_EVERY)?;
    let first_that = |sees_window: bool| slides.iter().position(|&slides| slides == sees_window).unwrap_or(0);
    let local = local(model, first_that(true))?;
    let global = global(model, first_that(false))?;
    let mlp = Mlp::gated(model.count_in(0, "feed_forward_length")?, ACTIVATION);
    let ropes = vec![local.rope, global.rope];
    let mut architecture =
        model.uniform(model.rms_norm()?, local.attention.clone(), ropes, Mixer::Dense(mlp))?;
    architecture.embedding.scale = (architecture.hidden_size as f32).sqrt();
    architecture.logit_cap = model.float("final_logit_softcapping")?;
    architecture.wire(Wiring::Sandwich);

    for (attention, &slides) in architecture.attention_mut().zip(&slides) {
        *attention = if slides { &local.attention } else { &global.attention }.clone();
    }
    let own = model.share_keys(&mut architecture, &slides)?;
    let is_wide = model.flag("use_double_wide_mlp")?.unwrap_or(false);
    for (index, layer) in architecture.layers.iter_mut().enumerate() {
        for block in &mut layer.blocks {
            if let Mixer::Dense(mlp) = &mut block.mixer {
                mlp.size = model.count_in(index, "feed_forward_length")?;
                mlp.size *= if is_wide && index >= own { 2 } else { 1 };
            }
        }
    }
    if has_experts(model)? {
        add_experts(&experts(model)?, &mut architecture);
    }
    end_layers(model, &mut architecture)?;
    Ok(architecture)
}

fn has_experts(model: &Hyperparameters<'_>) -> Result<bool, LoadError> {
    if model.is_gguf() {
        return Ok(model.number("expert_count")?.is_some_and(|count| count > 0));
    }
    Ok(model.flag("enable_moe_block")?.unwrap_or(false))
}

fn experts(model: &Hyperparameters<'_>) -> Result<Experts, LoadError> {
    let experts = model.experts(model.count("expert_feed_forward_length")?, true)?;
    let expert = Mlp { activation: ACTIVATION, ..experts.expert };
    Ok(Experts { expert, learned_scales: true, ..experts })
}

/// Puts experts beside the network of each layer.
fn add_experts(experts: &Experts, architecture: &mut Architecture) {
    for layer in &mut architecture.layers {
        let experts = Block::new(Mixer::Experts(*experts), Input::Beside, true);
        layer.blocks.push(Block { joint_norm: true, ..experts });
        layer.blocks[1].joint_norm = true;
    }
}

/// Ends each layer with its input for the token and with its factor, where the model has them.
fn end_layers(model: &Hyperparameters<'_>, architecture: &mut Architecture) -> Result<(), LoadError> {
    let width = model.number("embedding_length_per_layer_input")?.filter(|&width| width > 0);
    architecture.embedding.per_layer = width;
    let scaled = model.has_tensor("layer_output_scale");
    for (index, layer) in architecture.layers.iter_mut().enumerate() {
        layer.blocks.extend(width.map(|size| {
            Block::new(PerLayer { layer: index, size, activation: ACTIVATION }, Input::Plain, true)
        }));
        if let Some(last) = layer.blocks.last_mut().filter(|_| scaled) {
            last.stream_scale = StreamScale::Learned;
        }
    }
    Ok(())
}

/// Attention in a window, as in layer `layer`.
fn local(model: &Hyperparameters<'_>, layer: usize) -> Result<Kind, LoadError> {
    let head_dim =
        model.count(if model.is_gguf() { "attention.key_length_swa" } else { "attention.key_length" })?;
    let rope = if model.is_gguf() {
        let dimensions = model.optional_count("rope.dimension_count_swa")?.unwrap_or(head_dim);
        let base = model.float("rope.freq_base_swa")?.map_or(LOCAL_BASE, f64::from);
        rope(model.rope_dimensions(dimensions, head_dim)?, base, RopeFactors::None)
    } else {
        model.config_rope(RopePairs::Halves, head_dim, "sliding_attention")?
    };
    let window = Some(Window::Sliding(model.count("attention.sliding_window")?));
    let kv_heads = model.count_in(layer, "attention.head_count_kv")?;
    Ok(Kind { attention: Attention { window, ..attention(model, kv_heads, head_dim)? }, rope })
}

/// Attention that sees everything, as in layer `layer`.
fn global(model: &Hyperparameters<'_>, layer: usize) -> Result<Kind, LoadError> {
    if model.is_gguf() {
        let head_dim = model.count("attention.key_length")?;
        let base = model.float("rope.freq_base")?.map_or(GLOBAL_BASE, f64::from);
        let rope = rope(model.rope_dimensions(head_dim, head_dim)?, base, RopeFactors::Tensor("rope_freqs"));
        let kv_heads = model.count_in(layer, "attention.head_count_kv")?;
        let mut attention = Attention { rope: Some(1), ..attention(model, kv_heads, head_dim)? };
        if !model.has_tensor_in(layer, "attn_v", "weight") {
            attention.keys_and_values = KeysAndValues::OneMatrix;
        }
        return Ok(Kind { attention, rope });
    }
    let are_keys = model.flag("attention_k_eq_v")?.unwrap_or(false);
    let head_dim = match model.count_of_layer(layer, "head_dim")? {
        Some(head_dim) => head_dim,
        None => model.optional_count("global_head_dim")?.unwrap_or(GLOBAL_HEAD_DIM),
    };
    let kv_heads = match model.count_of_layer(layer, "num_key_value_heads")? {
        None if are_keys => model.optional_count("num_global_key_value_heads")?,
        kv_heads => kv_heads,
    };
    let kv_heads = match kv_heads {
        Some(kv_heads) => kv_heads,
        None => model.count("attention.head_count_kv")?,
    };
    let number = |name| model.rope_number("full_attention", name);
    let share = number("partial_rotary_factor")?.unwrap_or(TURNED_SHARE);
    let turned = (share * head_dim as f64) as usize;
    let base = number("rope_theta")?.unwrap_or(GLOBAL_BASE);
    let dimensions = model.rope_dimensions(head_dim, head_dim)?;
    let rope = Rope {
        position_scale: 1.0 / number("factor")?.unwrap_or(1.0),
        ..rope(dimensions, base, RopeFactors::None).turned_in_part(turned)
    };
    let keys_and_values = if are_keys { KeysAndValues::OneMatrix } else { KeysAndValues::TwoMatrices };
    let attention = Attention { rope: Some(1), keys_and_values, ..attention(model, kv_heads, head_dim)? };
    Ok(Kind { attention, rope })
}

fn rope(dimensions: usize, base: f64, factors: RopeFactors) -> Rope {
    Rope { pairs: RopePairs::Halves, dimensions, base, position_scale: 1.0, factors, magnitude: 1.0 }
}

/// What attention of both kinds shares.
fn attention(model: &Hyperparameters<'_>, kv_heads: usize, head_dim: usize) -> Result<Attention, LoadError> {
    Ok(Attention {
        key_dim: head_dim,
        value_dim: head_dim,
        scale: 1.0,
        qk_norm: Some(QkNorm::Heads),
        value_norm: Some(QkNorm::Unweighted),
        ..model.attention_of(model.count("attention.head_count")?, kv_heads)?
    })
}
