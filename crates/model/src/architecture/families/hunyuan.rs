//! Hunyuan, dense and as a mixture of experts: as Llama, with norms on each head of queries and keys after they are turned; with
//! experts, one network beside them that every token takes.
//!
//! Source: Tencent Hunyuan Team, "Hunyuan-A13B Technical Report" (2025).

use lookahead_kernels::{Activation, RopePairs};

use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{Attention, Experts, Mixer, Mlp, QkNorm, SharedExpert};
use crate::architecture::model::Architecture;
use crate::architecture::tensor_names::{LLAMA, Layout, Names};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["hunyuan-dense", "hunyuan-moe"],
    model_types: &["hunyuan_v1_dense", "hunyuan_v1_moe"],
    describe,
    layout: Layout::new(&[&NAMES, &LLAMA]),
};

const NAMES: Names = Names {
    model: &[],
    layers: "model.layers",
    layer: &[
        ("attn_q_norm", "self_attn.query_layernorm"),
        ("attn_k_norm", "self_attn.key_layernorm"),
        ("ffn_gate_inp", "mlp.gate.wg"),
        ("ffn_gate_shexp", "mlp.shared_mlp.gate_proj"),
        ("ffn_up_shexp", "mlp.shared_mlp.up_proj"),
        ("ffn_down_shexp", "mlp.shared_mlp.down_proj"),
    ],
};

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let norms = Attention { qk_norm: Some(QkNorm::Heads), norm_is_behind_rope: true, ..model.attention()? };
    let mut rope = model.rope(RopePairs::Halves, norms.key_dim)?;
    // Checkpoints call it dynamic; GGUF files have the base that comes of it.
    if !model.is_gguf()
        && let Some(alpha) = model.rope_number("full_attention", "alpha")?
    {
        let dimensions = rope.dimensions as f64;
        rope.base *= libm::pow(alpha, dimensions / (dimensions - 2.0));
    }
    let feed_forward = match model.optional_count("expert_count")? {
        None | Some(1) => model.gated_mlp(Activation::Silu)?,
        Some(_) => {
            let width = model.count("feed_forward_length")?;
            let experts = model.experts(model.expert_width()?, true)?;
            let size = match model.optional_count("expert_shared_feed_forward_length")? {
                Some(size) => size,
                None => width * model.optional_count("expert_shared_count")?.unwrap_or(1),
            };
            let mlp = Mlp { size, ..experts.expert };
            Mixer::Experts(Experts { shared: Some(SharedExpert { mlp, gated: false }), ..experts })
        }
    };
    model.uniform(model.rms_norm()?, norms, vec![rope], feed_forward)
}
