//! MiniMax-M2: norms on all of queries and keys, half of each head rotated, experts in every layer, chosen with a bias.
//!
//! Source: MiniMax, "MiniMax-M2" (2025), the models' published description.

use lookahead_kernels::RopePairs;

use super::llama::MIXTRAL;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Experts, Mixer, QkNorm, RouterScores, Routing};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["minimax-m2"],
    model_types: &["minimax_m2"],
    describe,
    layout: Layout::new(&[&NAMES, &MIXTRAL, &LLAMA]),
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[("exp_probs_b", "=block_sparse_moe.e_score_correction")],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Whole), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let experts = model.experts(model.expert_width()?, true)?;
    let routing = Routing { scores: RouterScores::Sigmoid, bias: true, ..experts.routing };
    let experts = Mixer::Experts(Experts { routing, ..experts });
    model.uniform(model.rms_norm()?, attention, vec![rope], experts)
}
