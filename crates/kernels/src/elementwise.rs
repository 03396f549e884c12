//! Operators on single rows: normalisation, activations, sums.
//!
//! Plain Rust, compiled for the instruction set at hand: the language does not reorder float operations, so the bits
//! are the same everywhere. Sums are kept in eight lanes by column modulo eight and added in the order
//! `((0+4)+(2+6)) + ((1+5)+(3+7))`.

use crate::math;
use crate::simd::{GROUP, MAX_PARTS, Simd, simd_fn};

/// The activation function of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x / (1 + e^-x)`: SwiGLU.
    Silu,
    /// `x P(X <= x)` of a normal distribution: GELU.
    Gelu,
    /// The tanh approximation of GELU: GeGLU, GPT-2.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)^2`
    SquaredRelu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `x / (1 + e^(-1.702 x))` of `min(x, 7)`; what it gates is kept between -7 and 7, and 1 is added: gpt-oss.
    ClampedSwish,
    /// `positive x^2 + slope x` of what is above 0, else `negative (e^min(x, limit) - 1 - x) + slope x` (Huang and Schlag, "Deriving
    /// Activation Functions Using Integration", 2024): Apertus.
    Xielu {
        /// Of the square.
        positive: f32,
        /// Of the exponential.
        negative: f32,
        /// At 0.
        slope: f32,
        /// Just below 0.
        limit: f32,
    },
}

/// Of [`Activation::ClampedSwish`].
const SWISH_LIMIT: f32 = 7.0;
const SWISH_SLOPE: f32 = 1.702;

/// The sum of `f(x)` over a row: lane `i` adds the columns `i` modulo 8 in ascending order.
#[inline(always)]
pub(crate) fn lane_sum(x: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for x in chunks {
        for i in 0..8 {
            lanes[i] = add(lanes[i], x[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = add(*lane, x);
    }
    add_lanes(lanes)
}

/// The sum of eight lanes.
#[inline(always)]
fn add_lanes(lanes: [f32; 8]) -> f32 {
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}

simd_fn! {
    /// Root-mean-square normalisation (Zhang and Sennrich, 2019): `out = x / sqrt(mean(x^2) + epsilon) * weight`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rms_norm(_simd, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        assert!(x.len() == weight.len() && x.len() == out.len(), "a row, its weights, its result");
        let squares = lane_sum(x, |sum, x| x.mul_add(x, sum));
        let scale = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = (x * scale) * weight;
        }
    }
}

simd_fn! {
    /// As [`rms_norm`], in place.
    pub fn rms_norm_in_place(_simd, x: &mut [f32], weight: &[f32], epsilon: f32) {
        assert_eq!(x.len(), weight.len(), "a row and its weights");
        let squares = lane_sum(x, |sum, x| x.mul_add(x, sum));
        let scale = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = (*x * scale) * weight;
        }
    }
}

simd_fn! {
    /// Layer normalisation (Ba et al., 2016): `x = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias`, in place.
    ///
    /// # Panics
    /// If the lengths differ; a bias of 0 may be empty.
    pub fn layer_norm_in_place(_simd, x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        assert!(x.len() == weight.len() && (bias.is_empty() || x.len() == bias.len()), "a row and its weights");
        let mean = lane_sum(x, |sum, x| sum + x) / x.len() as f32;
        for x in x.iter_mut() {
            *x -= mean;
        }
        let squares = lane_sum(x, |sum, x| x.mul_add(x, sum));
        let scale = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = (*x * scale) * weight;
        }
        for (x, bias) in x.iter_mut().zip(bias) {
            *x += bias;
        }
    }
}

simd_fn! {
    /// `x += y`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add(_simd, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "two rows");
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

simd_fn! {
    /// `x *= factor`
    pub fn scale(_simd, x: &mut [f32], factor: f32) {
        for x in x.iter_mut() {
            *x *= factor;
        }
    }
}

simd_fn! {
    /// `x[i] *= factors[i]`; nothing where there are no factors.
    pub fn scale_each(_simd, x: &mut [f32], factors: &[f32]) {
        for (x, factor) in x.iter_mut().zip(factors) {
            *x *= factor;
        }
    }
}

simd_fn! {
    /// `x += y * factor`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_scaled(_simd, x: &mut [f32], y: &[f32], factor: f32) {
        assert_eq!(x.len(), y.len(), "two rows");
        for (x, y) in x.iter_mut().zip(y) {
            *x = factor.mul_add(*y, *x);
        }
    }
}

simd_fn! {
    /// Scales `x` so that its mean square is that of `like`; its own counts as 0.00001 at least.
    pub fn match_magnitude(_simd, x: &mut [f32], like: &[f32]) {
        const LEAST: f32 = 1e-5;
        let mean_square = |x: &[f32]| lane_sum(x, |sum, x| x.mul_add(x, sum)) / x.len() as f32;
        let own = mean_square(x);
        let factor = mean_square(like).sqrt() / (if own > LEAST { own } else { LEAST }).sqrt();
        for x in x.iter_mut() {
            *x *= factor;
        }
    }
}

simd_fn! {
    /// `x = max(x - (mean(x) + deviations * deviation(x)), 0)`: of values that are spread like a normal distribution, it leaves the share
    /// that lies so many standard deviations above their mean.
    pub fn keep_outliers(_simd, x: &mut [f32], deviations: f32) {
        let count = x.len() as f32;
        let mean = lane_sum(x, |sum, x| sum + x) / count;
        let squares = lane_sum(x, |sum, x| (x - mean).mul_add(x - mean, sum));
        let cutoff = deviations.mul_add((squares / count).sqrt(), mean);
        for x in x.iter_mut() {
            *x = if *x > cutoff { *x - cutoff } else { 0.0 };
        }
    }
}

simd_fn! {
    /// `x = cap * tanh(x / cap)`
    pub fn soft_cap(_simd, x: &mut [f32], cap: f32) {
        for x in x.iter_mut() {
            *x = cap * math::tanh(*x / cap);
        }
    }
}

simd_fn! {
    /// `out = activation(gate) * up`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn gate(_simd, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and their product");
        activate_row(activation, gate, out);
        if activation == Activation::ClampedSwish {
            for (out, up) in out.iter_mut().zip(up) {
                *out *= up.clamp(-SWISH_LIMIT, SWISH_LIMIT) + 1.0;
            }
        } else {
            for (out, up) in out.iter_mut().zip(up) {
                *out *= up;
            }
        }
    }
}

simd_fn! {
    /// `out = activation(x)`
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn activate(_simd, activation: Activation, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "a row and its result");
        activate_row(activation, x, out);
    }
}

#[inline(always)]
fn activate_row(activation: Activation, x: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Silu => map(x, out, math::silu),
        Activation::Gelu => map(x, out, math::gelu),
        Activation::GeluTanh => map(x, out, math::gelu_tanh),
        Activation::Relu => map(x, out, |x| if x > 0.0 { x } else { 0.0 }),
        Activation::ClampedSwish => map(x, out, |x| {
            let x = if x > SWISH_LIMIT { SWISH_LIMIT } else { x };
            x / (1.0 + math::exp(-SWISH_SLOPE * x))
        }),
        Activation::SquaredRelu => map(x, out, |x| if x > 0.0 { x * x } else { 0.0 }),
        Activation::Sigmoid => map(x, out, math::sigmoid),
        Activation::Xielu { positive, negative, slope, limit } => map(x, out, |x| {
            let exponential = math::exp(if x < limit { x } else { limit }) - 1.0;
            slope * x + if x > 0.0 { positive * (x * x) } else { negative * (exponential - x) }
        }),
    }
}

#[inline(always)]
fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f(*x);
    }
}

/// Values, fewer than a group, and then negative infinity.
#[inline(always)]
fn filled_up(values: &[f32]) -> [f32; GROUP] {
    let mut all = [f32::NEG_INFINITY; GROUP];
    for (to, value) in all.iter_mut().zip(values) {
        *to = *value;
    }
    all
}

/// The greatest of `values`, which is the same in any order; negative infinity if there are none.
#[inline(always)]
fn greatest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let mut lanes = [simd.splat(f32::NEG_INFINITY); MAX_PARTS];
    let (groups, rest) = values.as_chunks::<GROUP>();
    for group in groups {
        for part in 0..S::PARTS {
            lanes[part] = simd.max(simd.load(group, part), lanes[part]);
        }
    }
    let mut group = filled_up(rest);
    for part in 0..S::PARTS {
        simd.store(simd.max(simd.load(&group, part), lanes[part]), &mut group, part);
    }
    let mut fours = [f32::NEG_INFINITY; 4];
    for lanes in group.as_chunks::<4>().0 {
        for i in 0..4 {
            fours[i] = if lanes[i] > fours[i] { lanes[i] } else { fours[i] };
        }
    }
    let mut greatest = fours[0];
    for lane in &fours[1..] {
        greatest = if *lane > greatest { *lane } else { greatest };
    }
    greatest
}

/// `x = e^(x - largest)`, added to the lanes of a sum.
#[inline(always)]
fn add_numerators(x: &mut [f32; GROUP], largest: f32, sums: &mut [f32; 8]) {
    for x in x.iter_mut() {
        *x = math::exp(*x - largest);
    }
    for half in x.as_chunks::<8>().0 {
        for i in 0..8 {
            sums[i] += half[i];
        }
    }
}

simd_fn! {
    /// Replaces scores by `e^(score - maximum)` and returns the maximum and their sum: a softmax but for the division.
    pub(crate) fn softmax_numerators(simd, scores: &mut [f32]) -> (f32, f32) {
        let largest = greatest(simd, scores);
        let mut sums = [0.0f32; 8];
        let (chunks, rest) = scores.as_chunks_mut::<GROUP>();
        for x in chunks {
            add_numerators(x, largest, &mut sums);
        }
        if !rest.is_empty() {
            let mut x = filled_up(rest);
            add_numerators(&mut x, largest, &mut sums);
            for (to, x) in rest.iter_mut().zip(x) {
                *to = x;
            }
        }
        (largest, add_lanes(sums))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the platform's functions are good enough to compare with")]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn softmax_numerators_are_a_softmax_but_for_the_division() {
        for isa in Isa::available() {
            let mut scores = [1.0, 2.0, 3.0];
            let (largest, sum) = softmax_numerators(isa, &mut scores);
            assert_eq!(largest, 3.0);
            let expected = [(-2f32).exp(), (-1f32).exp(), 1.0];
            assert!(scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
            assert!((sum - expected.iter().sum::<f32>()).abs() < 1e-6);
        }
    }
}
