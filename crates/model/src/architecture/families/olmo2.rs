//! OLMo 2 and 3: norms behind the blocks only, and on all of queries and keys. In OLMo 3 three of four layers see a window, and
//! only the others stretch their rotary embedding.
//!
//! Sources: OLMo Team, "2 OLMo 2 Furious" (2024), "Olmo 3" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, QkNorm, Wiring};
use crate::architecture::model::Architecture;
use crate::architecture::rope::{Rope, RopeFactors};
use crate::architecture::tensor_names::{LLAMA, Layout, POST_NORMS};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["olmo2"],
    model_types: &["olmo2", "olmo3"],
    describe,
    layout: Layout::new(&[&POST_NORMS, &LLAMA]),
};

/// In OLMo 3 every fourth layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 4;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Whole), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let mut architecture =
        model.uniform(model.rms_norm()?, attention, vec![rope], model.gated_mlp(Activation::Silu)?)?;
    architecture.wire(Wiring::PostNorm);
    let Some(window) = model.window()? else { return Ok(architecture) };
    let full = &architecture.ropes[0];
    let base = if model.is_gguf() {
        model.float("rope.freq_base_swa")?.map_or(full.base, f64::from)
    } else {
        model.config_rope(RopePairs::Halves, full.dimensions, "sliding_attention")?.base
    };
    let local =
        Rope { base, position_scale: 1.0, factors: RopeFactors::None, magnitude: 1.0, ..full.clone() };
    architecture.ropes.push(local);
    architecture.slide(&model.sliding_but_every(GLOBAL_EVERY)?, window, [Some(1), Some(0)]);
    Ok(architecture)
}
