//! GPT-2: learned positions, layer norms, biases everywhere, matrices stored transposed in checkpoints.
//!
//! Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).

use lookahead_kernels::Activation;

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["gpt2"],
    model_types: &["gpt2"],
    describe,
    layout: Layout { transposed: true, ..Layout::new(&[&NAMES]) },
};

const NAMES: Names = Names {
    model: &[
        ("token_embd", "transformer.wte"),
        ("position_embd", "transformer.wpe"),
        ("output_norm", "transformer.ln_f"),
    ],
    layers: "transformer.h",
    layer: &[
        ("attn_norm", "ln_1"),
        ("attn_qkv", "attn.c_attn"),
        ("attn_output", "attn.c_proj"),
        ("ffn_norm", "ln_2"),
        ("ffn_up", "mlp.c_fc"),
        ("ffn_down", "mlp.c_proj"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = model.attention_without_rope()?;
    let mut architecture =
        model.uniform(model.layer_norm()?, attention, Vec::new(), model.plain_mlp(Activation::GeluTanh)?)?;
    architecture.embedding.first_position = Some(0);
    Ok(architecture)
}
