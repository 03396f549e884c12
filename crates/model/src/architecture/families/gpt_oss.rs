//! gpt-oss: every second layer sees a window, each head has a sink, experts are gated by a clamped swish and have biases; YaRN
//! from broken pair to broken pair.
//!
//! Source: OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Experts, Mixer, Mlp};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, NORM_BY_PLACE, Names, Stacking};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["gpt-oss"],
    model_types: &["gpt_oss"],
    describe,
    layout: Layout { aliases: NORM_BY_PLACE, stacking: Stacking::Columns, ..Layout::new(&[&NAMES, &LLAMA]) },
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_sinks", "=self_attn.sinks"),
        ("ffn_gate_inp", "mlp.router"),
        ("ffn_gate_up_exps", "=mlp.experts.gate_up_proj"),
        ("ffn_down_exps", "=mlp.experts.down_proj"),
    ],
};

/// Every second layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 2;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    for (name, value) in [("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)] {
        if model.float(name)?.is_some_and(|found| found != value) {
            return Err(model.invalid(name, "1.702 for swiglu_alpha, 7 for swiglu_limit"));
        }
    }
    let attention = Attention { sinks: true, ..model.attention()? };
    let rope = model.rope_with_ramp(RopePairs::Halves, attention.key_dim, false)?;
    let experts = model.experts(model.expert_width()?, true)?;
    let expert = Mlp { activation: Activation::ClampedSwish, ..experts.expert };
    let experts = Mixer::Experts(Experts { expert, ..experts });
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], experts)?;
    let window = model.count("attention.sliding_window")?;
    architecture.slide(&model.sliding_but_every(GLOBAL_EVERY)?, window, [Some(0); 2]);
    Ok(architecture)
}
