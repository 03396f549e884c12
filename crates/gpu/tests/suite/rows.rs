//! Norms, activations, sums.

use lookahead_gpu::{Elementwise, NormOf, Rows, elementwise, keep_outliers, normalise, normalise_first};
use lookahead_kernels::{
    Activation, Isa, activate, add, add_scaled, gate, keep_outliers as keep_outliers_of, layer_norm_in_place,
    rms_norm_in_place, scale, sigmoid, soft_cap, tanh,
};
use proptest::prelude::*;

use crate::gpu::{bench, bits};
use crate::noise::Noise;

const ACTIVATIONS: [Activation; 8] = [
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::SquaredRelu,
    Activation::Sigmoid,
    Activation::ClampedSwish,
    Activation::Xielu { positive: 0.7, negative: 0.4, slope: 0.5, limit: -1e-6 },
];

/// Of all magnitudes that activations tell apart.
fn wide(noise: &mut Noise) -> f32 {
    noise.float() * [0.01, 1.0, 4.0, 40.0][noise.next() as usize % 4]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn norms_have_the_bits_of_the_cpu(
        is_layer in any::<bool>(),
        has_bias in any::<bool>(),
        each_part in any::<bool>(),
        part in 1usize..300,
        parts in 1usize..5,
        count in 1usize..5,
        in_place in any::<bool>(),
        only_first in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let width = part * parts;
        let values: Vec<f32> = (0..width * count).map(|_| wide(&mut noise)).collect();
        let weights = noise.floats(if each_part { width } else { part });
        let bias = if has_bias && is_layer { noise.floats(part) } else { Vec::new() };
        let mut expected = values.clone();
        for (index, x) in expected.chunks_exact_mut(part).enumerate() {
            if only_first && index % parts > 0 {
                continue;
            }
            let weights = if each_part { &weights[index % parts * part..][..part] } else { &weights };
            if is_layer {
                layer_norm_in_place(Isa::SCALAR, x, weights, &bias, 1e-5);
            } else {
                rms_norm_in_place(Isa::SCALAR, x, weights, 1e-5);
            }
        }
        let norm = NormOf {
            is_layer,
            epsilon: 1e-5,
            weight: bench.memory.add_constants(&weights),
            weight_stride: if each_part { part } else { 0 },
            bias: (!bias.is_empty()).then(|| bench.memory.add_constants(&bias)),
        };
        let pass = &mut bench.pass;
        let from = Rows { at: pass.put_floats(values), width, count };
        let to = if in_place || only_first { from } else { Rows::new(pass, count, width) };
        if only_first {
            normalise_first(&bench.gpu, pass, norm, part, to);
        } else {
            normalise(&bench.gpu, pass, norm, part, from, to);
        }
        pass.read(to.at..to.at + to.len());
        prop_assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == bits(&expected));
    }

    #[test]
    fn outliers_have_the_bits_of_the_cpu(
        width in 1usize..300,
        count in 1usize..5,
        deviations in 0f32..2.0,
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let values: Vec<f32> = (0..width * count).map(|_| wide(&mut noise)).collect();
        let mut expected = values.clone();
        for row in expected.chunks_exact_mut(width) {
            keep_outliers_of(Isa::SCALAR, row, deviations);
        }
        let pass = &mut bench.pass;
        let rows = Rows { at: pass.put_floats(values), width, count };
        keep_outliers(&bench.gpu, pass, rows, deviations);
        pass.read(rows.at..rows.at + rows.len());
        prop_assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == bits(&expected));
    }

    #[test]
    fn elementwise_operators_have_the_bits_of_the_cpu(
        which in 0usize..11,
        activation in prop::sample::select(&ACTIVATIONS[..]),
        [width, more] in prop::array::uniform2(1usize..150),
        count in 1usize..5,
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let to: Vec<f32> = (0..width * count).map(|_| wide(&mut noise)).collect();
        let from: Vec<f32> = (0..(width + more) * count).map(|_| wide(&mut noise)).collect();
        let isa = Isa::SCALAR;
        let operation = [
            Elementwise::Zero,
            Elementwise::Copy,
            Elementwise::Add,
            Elementwise::AddScaled(0.22),
            Elementwise::Scale(1.7),
            Elementwise::Activate(activation),
            Elementwise::Gate(activation),
            Elementwise::SoftCap(30.0),
            Elementwise::TanhOf(7.0),
            Elementwise::ScaleBySigmoid,
            Elementwise::Multiply,
        ][which];
        // Rows of the other in reverse.
        let order: Vec<u32> = (0..count as u32).rev().collect();
        let mut expected = to.clone();
        for (x, &row) in expected.chunks_exact_mut(width).zip(&order) {
            let y = &from[row as usize * (width + more)..][..width];
            let before = x.to_vec();
            match operation {
                Elementwise::Zero => x.fill(0.0),
                Elementwise::Copy => x.copy_from_slice(y),
                Elementwise::Add => add(isa, x, y),
                Elementwise::AddScaled(factor) => add_scaled(isa, x, y, factor),
                Elementwise::Multiply => x.iter_mut().zip(y).for_each(|(x, y)| *x *= y),
                Elementwise::Scale(factor) => scale(isa, x, factor),
                Elementwise::Activate(activation) => activate(isa, activation, &before, x),
                Elementwise::Gate(activation) => gate(isa, activation, &before, y, x),
                Elementwise::SoftCap(cap) => soft_cap(isa, x, cap),
                Elementwise::ScaleBySigmoid => gate(isa, Activation::Sigmoid, y, &before, x),
                Elementwise::TanhOf(divisor) => x.iter_mut().for_each(|x| *x = tanh(*x / divisor)),
            }
        }
        let pass = &mut bench.pass;
        let to = Rows { at: pass.put_floats(to), width, count };
        let from = Rows { at: pass.put_floats(from), width: width + more, count };
        let rows = pass.put_words(order);
        elementwise(&bench.gpu, pass, operation, to, from, Some(rows));
        pass.read(to.at..to.at + to.len());
        prop_assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == bits(&expected), "{operation:?}");
    }

    #[test]
    fn values_that_share_a_gate_have_the_bits_of_the_cpu(
        [gates, shared] in prop::array::uniform2(1usize..40),
        count in 1usize..5,
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let mut expected: Vec<f32> = (0..gates * shared * count).map(|_| wide(&mut noise)).collect();
        let gate_values: Vec<f32> = (0..gates * count).map(|_| wide(&mut noise)).collect();
        let pass = &mut bench.pass;
        let to = Rows { at: pass.put_floats(expected.clone()), width: gates * shared, count };
        let from = Rows { at: pass.put_floats(gate_values.clone()), width: gates, count };
        elementwise(&bench.gpu, pass, Elementwise::ScaleBySigmoid, to, from, None);
        pass.read(to.at..to.at + to.len());
        for (values, gate) in expected.chunks_exact_mut(shared).zip(gate_values) {
            scale(Isa::SCALAR, values, sigmoid(gate));
        }
        prop_assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == bits(&expected));
    }
}

#[test]
fn each_row_has_its_factor() {
    let Some(mut bench) = bench() else { return };
    let mut rows: Vec<f32> = (0..3 * 77u16).map(|i| f32::from(i) * 0.37 - 40.0).collect();
    let factors = vec![1.0, 0.3, -7.7];
    let pass = &mut bench.pass;
    let to = Rows { at: pass.put_floats(rows.clone()), width: 77, count: 3 };
    let from = Rows { at: pass.put_floats(factors.clone()), width: 1, count: 3 };
    elementwise(&bench.gpu, pass, Elementwise::Multiply, to, from, None);
    pass.read(to.at..to.at + to.len());
    let found = bench.memory.run(&bench.gpu, pass).unwrap();
    for (row, factor) in rows.chunks_mut(77).zip(factors) {
        scale(Isa::SCALAR, row, factor);
    }
    assert_eq!(bits(&found), bits(&rows));
}
