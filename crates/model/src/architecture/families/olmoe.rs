//! OLMoE: as Llama, with norms on all of queries and keys and with experts.
//!
//! Source: Muennighoff et al., "OLMoE: Open Mixture-of-Experts Language Models" (2024).

use lookahead_kernels::RopePairs;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Mixer, QkNorm};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family =
    Family { gguf: &["olmoe"], model_types: &["olmoe"], describe, layout: Layout::new(&[&LLAMA]) };

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    if model.has_field("clip_qkv") {
        return Err(model.invalid("clip_qkv", "null: queries, keys and values are not clipped here"));
    }
    let attention = Attention { qk_norm: Some(QkNorm::Whole), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let size = model.count("feed_forward_length")?;
    let experts = model.experts(size, model.flag("norm_topk_prob")?.unwrap_or(false))?;
    model.uniform(model.rms_norm()?, attention, vec![rope], Mixer::Experts(experts))
}
