//! Llama 4 (text): three of four layers see chunks of the context, with a rotary embedding and norms without weights behind it; the
//! others see everything, without one, and scale queries by their position. In some layers one of many experts, given its input
//! times its score, stands beside a shared one.
//!
//! Source: Meta AI, "The Llama 4 herd" (2025), and transformers' documentation of it.

use lookahead_kernels::{Activation, RopePairs, Window};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{
    Attention, Experts, Mixer, Mlp, QkNorm, QueryScale, RouterScores, Routing, SharedExpert,
};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names, Stacking};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["llama4"],
    model_types: &["llama4", "llama4_text"],
    describe,
    layout: Layout { stacking: Stacking::HalvedColumns, ..Layout::new(&[&NAMES, &LLAMA]) },
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("ffn_gate", "feed_forward.gate_proj"),
        ("ffn_up", "feed_forward.up_proj"),
        ("ffn_down", "feed_forward.down_proj"),
        ("ffn_gate_inp", "feed_forward.router"),
        ("ffn_gate_up_exps", "=feed_forward.experts.gate_up_proj"),
        ("ffn_down_exps", "=feed_forward.experts.down_proj"),
        ("ffn_gate_shexp", "feed_forward.shared_expert.gate_proj"),
        ("ffn_up_shexp", "feed_forward.shared_expert.up_proj"),
        ("ffn_down_shexp", "feed_forward.shared_expert.down_proj"),
    ],
};

/// Every fourth layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 4;
/// Positions of a chunk, and those in which the scale of queries stays the same, where files do not say.
const CHUNK: usize = 8192;
/// How fast the scale of queries grows, where files do not say.
const SCALE_WEIGHT: f32 = 0.1;
/// The model of so many experts has no norms on queries and keys. Checkpoints say so.
const EXPERTS_WITHOUT_NORMS: usize = 128;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Interleaved, attention.key_dim)?;
    let [dense, sparse] = if model.is_gguf() {
        ["feed_forward_length", "expert_feed_forward_length"]
    } else {
        ["intermediate_size_mlp", "feed_forward_length"]
    };
    let dense = Mlp::gated(model.count(dense)?, Activation::Silu);
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], Mixer::Dense(dense))?;

    let experts = model.experts(model.count(sparse)?, false)?;
    let routing = Routing { scores: RouterScores::Sigmoid, weighs_inputs: true, ..experts.routing };
    let shared = Some(SharedExpert { mlp: experts.expert, gated: false });
    let interval = model.number("interleave_moe_layer_step")?.unwrap_or(1);
    let listed = model.numbers("moe_layers")?;
    let is_sparse = |layer: usize| match listed[..] {
        [] => interval > 0 && (layer + 1).is_multiple_of(interval),
        _ => listed.contains(&layer),
    };
    let has_norms = match model.flag("use_qk_norm")? {
        Some(has_norms) => has_norms,
        None => experts.count != EXPERTS_WITHOUT_NORMS,
    };
    architecture.sparse(&Experts { routing, shared, ..experts }, is_sparse);
    see_chunks(model, has_norms, &mut architecture)?;
    Ok(architecture)
}

/// Lets layers with a rotary embedding see chunks, and takes it from the others.
fn see_chunks(
    model: &Hyperparameters<'_>,
    has_norms: bool,
    architecture: &mut Architecture,
) -> Result<(), LoadError> {
    let chunk = if model.is_gguf() { "attention.sliding_window" } else { "attention_chunk_size" };
    let chunk = model.number(chunk)?.unwrap_or(CHUNK);
    let kinds = model.names("layer_types")?;
    let turns = model.numbers("no_rope_layers")?;
    let query_scale = QueryScale {
        weight: model.float("attn_scale")?.unwrap_or(SCALE_WEIGHT),
        period: model.optional_count("floor_scale")?.unwrap_or(CHUNK),
        offset: 1,
    };
    // Older files have a number.
    let scales = !matches!(model.flag("attn_temperature_tuning"), Ok(Some(false)));
    for (layer, attention) in architecture.attention_mut().enumerate() {
        // Files of models without chunks say 0.
        let is_global = (layer + 1).is_multiple_of(GLOBAL_EVERY) && chunk > 0;
        let is_turned = turns.get(layer).map_or(!is_global, |&turns| turns != 0);
        let sees_chunks = match kinds.as_ref().and_then(|kinds| kinds.get(layer)) {
            Some(&kind) => kind == "chunked_attention",
            None => is_turned,
        };
        attention.window = (sees_chunks && chunk > 0).then_some(Window::Chunk(chunk));
        *attention = if is_turned {
            let qk_norm = has_norms.then_some(QkNorm::Unweighted);
            Attention { qk_norm, norm_is_behind_rope: true, ..attention.clone() }
        } else {
            Attention { rope: None, query_scale: scales.then_some(query_scale), ..attention.clone() }
        };
    }
    Ok(())
}
