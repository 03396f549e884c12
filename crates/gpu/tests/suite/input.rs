//! Operators that make the input of products, by what products make of it.

use lookahead_gpu::{Added, Codes, Elementwise, Epilogue, GpuMatrix, Input, NormOf, Pass, Rows};
use lookahead_kernels::{
    Activation, Activations, InputCodes, Isa, Kernels, Matrix, WeightArena, WeightType, add_scaled, gate,
    layer_norm_in_place, multiply, rms_norm_in_place, scale,
};
use proptest::prelude::*;

use crate::gpu::{Bench, bench, bits};
use crate::matrix::random_rows;
use crate::noise::Noise;

/// Outputs of the products.
const OUTPUTS: usize = 16;

/// Rows that are no whole blocks of what has no codes.
fn width_of([has_blocks, has_super_blocks]: [bool; 2], size: usize) -> usize {
    match (has_blocks, has_super_blocks) {
        (_, true) => 256 * size.div_ceil(30),
        (true, false) => 32 * size,
        (false, false) => 11 * size,
    }
}

fn input([has_blocks, has_super_blocks]: [bool; 2], pass: &mut Pass, values: Rows) -> Input {
    let Rows { count, width, .. } = values;
    let blocks = has_blocks.then(|| Codes::new(pass, count, width, 32));
    Input { values, blocks, super_blocks: has_super_blocks.then(|| Codes::new(pass, count, width, 256)) }
}

/// Checks the rows of an input, their products with weights of a type that needs each of their forms, and rows beside them.
fn check(
    mut bench: Bench,
    noise: &mut Noise,
    input: Input,
    mut expected: Vec<f32>,
    beside: Option<(Rows, &[f32])>,
) {
    let Rows { count, width, .. } = input.values;
    let kernels = Kernels::with_isa(Isa::SCALAR, 1);
    let mut all = bits(&expected);
    let pass = &mut bench.pass;
    pass.read(input.values.at..input.values.at + input.values.len());
    if let Some((rows, expected)) = beside {
        pass.read(rows.at..rows.at + rows.len());
        all.extend(bits(expected));
    }
    let forms = [(input.blocks, WeightType::Q8_0), (input.super_blocks, WeightType::Q4K)];
    let types = forms.iter().filter(|(codes, _)| codes.is_some()).map(|(_, weight_type)| *weight_type);
    let types: Vec<_> = types.collect();
    let codes = types.iter().fold(InputCodes::NONE, |codes, weight_type| codes | weight_type.codes());
    let mut x = Activations::new();
    x.compute(&kernels, [count, width], codes, [(&mut expected, width)], 0, |_, [from], row| {
        row.copy_from_slice(from);
    });
    for weight_type in types {
        let bytes = random_rows(weight_type, OUTPUTS * width, noise);
        let matrix =
            Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [OUTPUTS, width], &bytes).unwrap();
        let mut products = vec![0.0; count * OUTPUTS];
        multiply(&kernels, &x, [(&matrix, &mut products)]);
        all.extend(bits(&products));
        let out = Rows::new(pass, count, OUTPUTS);
        let matrix = GpuMatrix::upload(&bench.gpu, &matrix).unwrap();
        matrix.multiply(&bench.gpu, pass, &input, Epilogue::default(), out);
        pass.read(out.at..out.at + out.len());
    }
    assert!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()) == all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_normalised_and_quantized_as_on_the_cpu(
        forms in any::<[bool; 2]>(),
        size in 1usize..60,
        count in 1usize..5,
        results in 0usize..3,
        is_normed in any::<bool>(),
        is_layer in any::<bool>(),
        has_bias in any::<bool>(),
        factor in prop::sample::select(vec![1.0f32, 0.22]),
        sum_scale in prop::sample::select(vec![1.0f32, 0.7]),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let width = width_of(forms, size);
        let mut stream = noise.floats(count * width);
        let results: Vec<_> = (0..results).map(|_| noise.floats(count * width)).collect();
        let weights = noise.floats(width);
        let bias = if has_bias && is_layer { noise.floats(width) } else { Vec::new() };
        let norm = NormOf {
            is_layer,
            epsilon: 1e-5,
            weight: bench.memory.add_constants(&weights),
            weight_stride: 0,
            bias: (!bias.is_empty()).then(|| bench.memory.add_constants(&bias)),
        };

        let pass = &mut bench.pass;
        let rows = |pass: &mut Pass, values: &Vec<f32>| Rows { at: pass.put_floats(values.clone()), width, count };
        let from = rows(pass, &stream);
        let values = if is_normed { Rows::new(pass, count, width) } else { from };
        let input = input(forms, pass, values);
        let added: Vec<_> = results.iter().map(|result| rows(pass, result)).collect();
        let added = Added { rows: &added, factor, scale: sum_scale };
        input.normalise(&bench.gpu, pass, added, is_normed.then_some(norm), from);

        for result in &results {
            add_scaled(Isa::SCALAR, &mut stream, result, factor);
        }
        scale(Isa::SCALAR, &mut stream, sum_scale);
        let mut expected = stream.clone();
        for row in expected.chunks_exact_mut(width).filter(|_| is_normed) {
            if is_layer {
                layer_norm_in_place(Isa::SCALAR, row, &weights, &bias, 1e-5);
            } else {
                rms_norm_in_place(Isa::SCALAR, row, &weights, 1e-5);
            }
        }
        check(bench, &mut noise, input, expected, Some((from, &stream)));
    }

    #[test]
    fn what_activations_let_through_is_quantized_as_on_the_cpu(
        forms in any::<[bool; 2]>(),
        size in 1usize..60,
        count in 1usize..5,
        is_gated in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let width = width_of(forms, size);
        let [gates, ups] = [0, 1].map(|_| noise.floats(count * width));
        let pass = &mut bench.pass;
        let [values, from] = [&gates, &ups].map(|values| Rows { at: pass.put_floats(values.clone()), width, count });
        let input = input(forms, pass, values);
        let mut expected = gates.clone();
        if is_gated {
            input.change(&bench.gpu, pass, Elementwise::Gate(Activation::Silu), from);
            gate(Isa::SCALAR, Activation::Silu, &gates, &ups, &mut expected);
        } else {
            input.quantize(&bench.gpu, pass);
        }
        check(bench, &mut noise, input, expected, None);
    }
}
