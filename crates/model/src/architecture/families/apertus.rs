//! Apertus: norms on each head of queries and keys, networks without a gate whose activation has learned numbers.
//!
//! Source: Project Apertus, "Apertus: Democratizing Open and Compliant LLMs for Global Language Environments" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Mixer, QkNorm};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["apertus"],
    model_types: &["apertus"],
    describe,
    layout: Layout::new(&[&NAMES, &LLAMA]),
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_norm", "attention_layernorm"),
        ("ffn_norm", "feedforward_layernorm"),
        ("xielu.alpha_p", "=mlp.act_fn.alpha_p"),
        ("xielu.alpha_n", "=mlp.act_fn.alpha_n"),
        ("xielu.beta", "=mlp.act_fn.beta"),
        ("xielu.eps", "=mlp.act_fn.eps"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention { qk_norm: Some(QkNorm::Heads), ..model.attention()? };
    let rope = model.rope(RopePairs::Halves, attention.key_dim)?;
    let network = model.plain_mlp(Activation::SquaredRelu)?;
    let mut architecture = model.uniform(model.rms_norm()?, attention, vec![rope], network)?;
    for (index, layer) in architecture.layers.iter_mut().enumerate() {
        for block in &mut layer.blocks {
            if let Mixer::Dense(mlp) = &mut block.mixer {
                mlp.activation = activation(model, index)?;
            }
        }
    }
    Ok(architecture)
}

fn activation(model: &Hyperparameters<'_>, layer: usize) -> Result<Activation, LoadError> {
    let learned = |name| model.learned(layer, name);
    let slope = learned("xielu.beta")?;
    Ok(Activation::Xielu {
        positive: softplus(learned("xielu.alpha_p")?),
        negative: slope + softplus(learned("xielu.alpha_n")?),
        slope,
        limit: learned("xielu.eps")?,
    })
}

/// `ln(1 + e^x)`
fn softplus(x: f32) -> f32 {
    libm::log1p(libm::exp(f64::from(x))) as f32
}
