//! Gemma 3n (text): attention as in Gemma 4, a narrow map beside it, an input of each layer's own for each token, networks of which most
//! values do not count in the first layers, and several residual streams, of which layers compute one. The last layers see the keys
//! and values of earlier ones.
//!
//! Source: Gemma Team, "Gemma 3n" (2025), the models' published description.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use lookahead_kernels::{Activation, RopePairs};

use super::gemma::local_rope;
use crate::architecture::family::Family;
use crate::architecture::hyperparameters::Hyperparameters;
use crate::architecture::layer::{
    Attention, Block, Input, Laurel, Layer, Mlp, PerLayer, QkNorm, StreamScale,
};
use crate::architecture::model::{AltUp, Architecture, MOST_STREAMS};
use crate::architecture::tensor_names::{LLAMA, Layout, Names, PER_LAYER, POST_NORMS};
use crate::load_error::LoadError;

pub(super) const FAMILY: Family = Family {
    gguf: &["gemma3n"],
    model_types: &["gemma3n", "gemma3n_text"],
    describe,
    layout: Layout::new(&[&STREAMS, &PER_LAYER, &POST_NORMS, &LLAMA]),
};

const STREAMS: Names = Names {
    model: &[
        ("altup_proj", "model.altup_projections.{}"),
        ("altup_unembd_proj", "model.altup_unembed_projections.{}"),
    ],
    layers: "model.layers",
    layer: &[
        ("altup_router", "altup.modality_router"),
        ("altup_router_norm", "altup.router_norm"),
        ("altup_predict_coef", "altup.prediction_coefs"),
        ("altup_correct_coef", "altup.correction_coefs"),
        ("altup_correct_scale", "=altup.correct_output_scale"),
        ("laurel_l", "laurel.linear_left"),
        ("laurel_r", "laurel.linear_right"),
        ("laurel_post_norm", "laurel.post_laurel_norm"),
    ],
};

/// Every fifth layer sees everything, where files do not say.
const GLOBAL_EVERY: usize = 5;
/// Bound of logits, where files do not say.
const LOGIT_CAP: f32 = 30.0;
/// Residual streams, where files do not say.
const STREAM_COUNT: usize = 4;
/// So many layers, the first of more, leave out this share of the values of their networks, where files do not say.
const SPARSE_LAYERS: usize = 10;
const SPARSE_SHARE: f64 = 0.95;

const ACTIVATION: Activation = Activation::GeluTanh;

fn describe(model: &Hyperparameters<'_>) -> Result<Architecture, LoadError> {
    let attention = Attention {
        scale: 1.0,
        qk_norm: Some(QkNorm::Heads),
        value_norm: Some(QkNorm::Unweighted),
        ..model.attention()?
    };
    let global = model.rope(RopePairs::Halves, attention.key_dim)?;
    let ropes = vec![local_rope(model, &global)?, global];
    let size = model.count("embedding_length_per_layer_input")?;
    let sparsities = sparsities(model)?;
    let beside_attention = laurel(model)?;
    let layer = |(index, sparsity)| {
        let mlp = Mlp::gated(model.count_in(index, "feed_forward_length")?, ACTIVATION);
        let blocks = vec![
            Block::new(attention.clone(), Input::Predicted, true),
            beside_attention.clone(),
            Block::new(Mlp { sparsity, ..mlp }, Input::Normalised, true),
            Block::new(PerLayer { layer: index, size, activation: ACTIVATION }, Input::Corrected, true),
        ];
        Ok(Layer { blocks })
    };
    let layers = sparsities.into_iter().enumerate().map(layer).collect::<Result<_, LoadError>>()?;
    let mut architecture = model.stack(model.rms_norm()?, ropes, layers)?;
    architecture.embedding.scale = (architecture.hidden_size as f32).sqrt();
    architecture.embedding.per_layer = Some(size);
    architecture.altup = Some(altup(model)?);
    architecture.logit_cap = Some(model.float("final_logit_softcapping")?.unwrap_or(LOGIT_CAP));
    let slides = model.sliding_but_every(GLOBAL_EVERY)?;
    architecture.slide(&slides, model.count("attention.sliding_window")?, [Some(0), Some(1)]);
    model.share_keys(&mut architecture, &slides)?;
    Ok(architecture)
}

/// The narrow map beside attention, behind which the sum of both and of the residual stream is scaled.
fn laurel(model: &Hyperparameters<'_>) -> Result<Block, LoadError> {
    // GGUF files do not say.
    let rank = model.optional_count("laurel_rank")?.or_else(|| model.rows_of("laurel_l"));
    let rank = rank.ok_or_else(|| model.invalid("laurel_rank", "a number"))?;
    let stream_scale = StreamScale::Fixed(FRAC_1_SQRT_2 as f32);
    Ok(Block { stream_scale, ..Block::new(Laurel { rank }, Input::Shared, false) })
}

fn altup(model: &Hyperparameters<'_>) -> Result<AltUp, LoadError> {
    let streams = model.optional_count("altup.num_inputs")?.unwrap_or(STREAM_COUNT);
    if streams > MOST_STREAMS {
        return Err(model.invalid("altup.num_inputs", "a number from 1 to 16"));
    }
    let active = model.number("altup.active_idx")?.unwrap_or(0);
    if active >= streams {
        return Err(model.invalid("altup.active_idx", "a number below that of the residual streams"));
    }
    Ok(AltUp { streams, active, scaled: model.flag("altup_correct_scale")?.unwrap_or(true) })
}

/// How far above their mean the values of each layer's network lie that count. `config.json` says which share does not, and 0 where all do;
/// GGUF files say the standard deviations that come of it.
fn sparsities(model: &Hyperparameters<'_>) -> Result<Vec<Option<f32>>, LoadError> {
    let layers = model.count("block_count")?;
    let name = if model.is_gguf() { "activation_sparsity_scale" } else { "activation_sparsity_pattern" };
    let Some(numbers) = model.floats(name)? else {
        let is_sparse = |layer| layer < SPARSE_LAYERS && layers > SPARSE_LAYERS;
        return Ok((0..layers).map(|layer| is_sparse(layer).then(|| deviations(SPARSE_SHARE))).collect());
    };
    if numbers.len() != layers {
        return Err(model.invalid(name, "as many entries as there are layers"));
    }
    let sparsity = |number: f32| match model.is_gguf() {
        true if number == f32::NEG_INFINITY => Ok(None),
        true if number.is_finite() => Ok(Some(number)),
        true => Err(model.invalid(name, "numbers, or negative infinity, for each layer")),
        false if number == 0.0 => Ok(None),
        false if 0.0 < number && number < 1.0 => Ok(Some(deviations(f64::from(number)))),
        false => Err(model.invalid(name, "a share from 0 to 1 for each layer")),
    };
    numbers.into_iter().map(sparsity).collect()
}

/// How many standard deviations above its mean a normal distribution has `share` of its values below it.
///
/// By Newton's method from the mean: above it the share is a concave function, so that the steps climb to the result.
fn deviations(share: f64) -> f32 {
    let (share, sign) = if share < 0.5 { (1.0 - share, -1.0) } else { (share, 1.0) };
    let mut deviations = 0.0;
    loop {
        let below = 0.5 * libm::erfc(-deviations * FRAC_1_SQRT_2);
        let density = libm::exp(-0.5 * deviations * deviations) / TAU.sqrt();
        let next = deviations + (share - below) / density;
        if next <= deviations {
            return (sign * deviations) as f32;
        }
        deviations = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_the_quantiles_of_a_normal_distribution() {
        // By Python: statistics.NormalDist().inv_cdf.
        for (share, expected) in
            [(0.5, 0.0), (0.95, 1.644_853_6), (0.3, -0.524_400_5), (0.999, 3.090_232_3), (1e-6, -4.753_424)]
        {
            assert!((deviations(share) - expected).abs() < 1e-6, "{share}: {}", deviations(share));
        }
        for share in [f64::MIN_POSITIVE, 1.0 - f64::EPSILON] {
            assert!(deviations(share).is_finite(), "{share}");
        }
    }
}
