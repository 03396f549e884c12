//! ERNIE 4.5, dense and as a mixture of experts (text): as Llama with neighbouring rotary pairs; experts are chosen with a bias,
//! from some layer on, beside shared ones.
//!
//! Source: Baidu ERNIE Team, "ERNIE 4.5 Technical Report" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Experts, Routing};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{DEEPSEEK_EXPERTS, LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["ernie4_5", "ernie4_5-moe"],
    model_types: &["ernie4_5", "ernie4_5_moe"],
    describe,
    layout: Layout::new(&[&NAMES, &DEEPSEEK_EXPERTS, &LLAMA]),
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[("exp_probs_b", "=mlp.moe_statics.e_score_correction")],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention()?;
    let rope = model.rope(RopePairs::Interleaved, attention.key_dim)?;
    let dense = model.gated_mlp(Activation::Silu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], dense)?;
    if model.optional_count("expert_count")?.is_none() {
        return Ok(architecture);
    }
    let experts = model.experts(model.count("expert_feed_forward_length")?, true)?;
    let routing = Routing { bias: true, ..experts.routing };
    let experts = Experts { routing, shared: model.shared_experts(experts.expert)?, ..experts };
    let interval = if model.is_gguf() { "interleave_moe_layer_step" } else { "moe_layer_interval" };
    let interval = model.optional_count(interval)?.unwrap_or(1);
    let first = model.number("leading_dense_block_count")?.unwrap_or(0);
    let last = model.number("moe_layer_end_index")?.unwrap_or(usize::MAX);
    architecture
        .sparse(&experts, |index| (first..=last).contains(&index) && (index + 1).is_multiple_of(interval));
    Ok(architecture)
}
