//! Baichuan 1 and 2: as Llama with queries, keys and values in one matrix; the 13B models have ALiBi instead of a rotary
//! embedding. The output head of Baichuan 2 is used with rows of unit length.
//!
//! Sources: Yang et al., "Baichuan 2" (2023); the models' published code (`modeling_baichuan.py`).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::Attention;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["baichuan"],
    model_types: &["baichuan"],
    describe,
    layout: Layout { unit_head_rows: Some(VOCABULARY_OF_2), ..Layout::new(&[&NAMES, &LLAMA]) },
};

const NAMES: Names = Names { model: &[], layers: "model.layers", layer: &[("attn_qkv", "self_attn.W_pack")] };

/// Baichuan 2 is known by its vocabulary; the first has 64,000 tokens.
const VOCABULARY_OF_2: usize = 125_696;

/// The 13B models are known by their layers in GGUF files, and by the name of their context length in checkpoints.
const LAYERS_OF_13B: usize = 40;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let has_alibi = if model.is_gguf() {
        model.count("block_count")? == LAYERS_OF_13B
    } else {
        !model.has_field("max_position_embeddings")
    };
    let attention = model.attention()?;
    let (attention, ropes) = if has_alibi {
        (Attention { rope: None, alibi: true, ..attention }, Vec::new())
    } else {
        let rope = model.rope(model.permuted_pairs(), attention.key_dim)?;
        (attention, vec![rope])
    };
    model.uniform(model.rms_norm()?, attention, ropes, model.gated_mlp(Activation::Silu)?)
}
