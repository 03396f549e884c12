//! Operators on single rows.

use lookahead_kernels::{
    Activation, Isa, activate, add, add_scaled, exp_of_product, gate, keep_outliers, layer_norm_in_place,
    match_magnitude, rms_norm, rms_norm_in_place, scale, scale_each, soft_cap, unit_length,
};
use proptest::prelude::*;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const XIELU: Activation = Activation::Xielu { positive: 0.8, negative: 0.7, slope: 0.5, limit: -1e-6 };

proptest! {
    #[test]
    fn every_instruction_set_gives_the_scalar_bits(
        x in prop::collection::vec(-30f32..30.0, 1..70),
        seed in 0.1f32..3.0,
    ) {
        let weight: Vec<f32> = x.iter().map(|x| x * seed + 0.5).collect();
        let run = |isa: Isa| {
            let mut rows = vec![x.clone(); 12];
            rms_norm(isa, &x, &weight, 1e-5, &mut rows[0]);
            gate(isa, Activation::Silu, &x, &weight, &mut rows[1]);
            gate(isa, Activation::GeluTanh, &x, &weight, &mut rows[2]);
            rms_norm_in_place(isa, &mut rows[3], &weight, 1e-5);
            add(isa, &mut rows[3], &weight);
            scale(isa, &mut rows[3], seed);
            scale_each(isa, &mut rows[3], &x);
            layer_norm_in_place(isa, &mut rows[5], &weight, &x, 1e-5);
            add_scaled(isa, &mut rows[5], &weight, seed);
            activate(isa, Activation::Gelu, &x, &mut rows[6]);
            activate(isa, Activation::Relu, &weight, &mut rows[4]);
            soft_cap(isa, &mut rows[4], 5.0);
            activate(isa, Activation::SquaredRelu, &x, &mut rows[7]);
            gate(isa, Activation::ClampedSwish, &x, &weight, &mut rows[8]);
            gate(isa, Activation::Sigmoid, &x, &weight, &mut rows[9]);
            unit_length(isa, &mut rows[9], 1e-6, seed);
            exp_of_product(isa, &mut rows[9], -seed);
            activate(isa, XIELU, &x, &mut rows[10]);
            match_magnitude(isa, &mut rows[11], &weight);
            keep_outliers(isa, &mut rows[11], seed - 1.0);
            rows.iter().map(|row| bits(row)).collect::<Vec<_>>()
        };
        let expected = run(Isa::SCALAR);
        for isa in Isa::available() {
            prop_assert_eq!(run(isa), expected.clone(), "{:?}", isa);
        }
    }
}

#[test]
fn rms_norm_divides_by_the_root_of_the_mean_square() {
    let mut out = [0.0; 2];
    rms_norm(Isa::SCALAR, &[3.0, 4.0], &[1.0, 2.0], 0.0, &mut out);
    let root = (12.5f32).sqrt();
    assert!((out[0] - 3.0 / root).abs() < 1e-6 && (out[1] - 8.0 / root).abs() < 1e-6);
}

#[test]
fn magnitudes_are_matched_and_small_ones_are_not_blown_up() {
    let (mut x, mut small) = ([3.0f32, -4.0], [3e-5f32, -4e-5]);
    match_magnitude(Isa::SCALAR, &mut x, &[6.0, 8.0]);
    assert!((x[0] - 6.0).abs() < 1e-5 && (x[1] + 8.0).abs() < 1e-5, "{x:?}");
    match_magnitude(Isa::SCALAR, &mut small, &[1.0, 1.0]);
    assert!((small[0] - 3e-5 / 1e-5f32.sqrt()).abs() < 1e-6, "{small:?}");
}

#[test]
fn outliers_are_what_lies_above_the_mean_and_some_deviations() {
    // Their mean is 2, their standard deviation 1.
    let mut x = [1.0, 3.0, 1.0, 3.0];
    keep_outliers(Isa::SCALAR, &mut x, 0.75);
    assert_eq!(x, [0.0, 0.25, 0.0, 0.25]);
    let mut x = [1.0, 3.0, 1.0, 3.0];
    keep_outliers(Isa::SCALAR, &mut x, -1.5);
    assert_eq!(x, [0.5, 2.5, 0.5, 2.5]);
}

#[test]
fn xielu_is_a_square_above_zero_and_an_exponential_below() {
    let mut out = [0.0; 3];
    activate(Isa::SCALAR, XIELU, &[2.0, 0.0, -3.0], &mut out);
    let below = 0.7 * (libm::expf(-3.0) - 1.0 + 3.0) - 1.5;
    assert!(out.iter().zip([0.8 * 4.0 + 1.0, 0.0, below]).all(|(a, b)| (a - b).abs() < 2e-6), "{out:?}");
}

#[test]
fn layer_norm_leaves_a_mean_of_bias_and_a_variance_of_weight() {
    let mut x = [1.0, 2.0, 3.0, 6.0];
    layer_norm_in_place(Isa::SCALAR, &mut x, &[2.0; 4], &[1.0; 4], 0.0);
    let root = 3.5f32.sqrt();
    let expected = [-2.0, -1.0, 0.0, 3.0].map(|x| 2.0 * x / root + 1.0);
    assert!(x.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{x:?}");
}
