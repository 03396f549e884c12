//! Products with weights of every type.

use half::f16;
use lookahead_gpu::{Codes, Epilogue, GpuMatrix, Input, Rows};
use lookahead_kernels::{Activations, Isa, Kernels, Matrix, PackedForm, WeightArena, WeightType, multiply};
use proptest::prelude::*;

use crate::gpu::{bench, bits};
use crate::noise::Noise;

/// Rows of random blocks whose scales are finite and not too far apart.
pub(crate) fn random_rows(weight_type: WeightType, weights: usize, noise: &mut Noise) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < weights / weight_type.block_weights() * weight_type.block_bytes() {
        let mut block: Vec<u8> = (0..weight_type.block_bytes()).map(|_| noise.next() as u8).collect();
        match weight_type {
            WeightType::F32 => block.copy_from_slice(&noise.float().to_le_bytes()),
            WeightType::F16 => block.copy_from_slice(&f16::from_f32(noise.float()).to_le_bytes()),
            WeightType::Bf16 => block[1] = block[1] & 0x80 | 0x3c | block[1] & 3,
            WeightType::Mxfp4 => block[0] = 118 + block[0] % 9,
            WeightType::Nvfp4 => {}
            // Wherever halves lie, their exponents are small: those of bytes of codes do not matter.
            _ => block.iter_mut().for_each(|byte| *byte &= 0xbb),
        }
        bytes.extend(block);
    }
    bytes
}

fn check(weight_type: WeightType, [rows, columns]: [usize; 2], tokens: usize, seed: u64) {
    let Some(mut bench) = bench() else { return };
    let mut noise = Noise::new(seed);
    let kernels = Kernels::with_isa(Isa::SCALAR, 1);
    let bytes = random_rows(weight_type, rows * columns, &mut noise);
    let matrix =
        Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [rows, columns], &bytes).unwrap();
    let matrix = matrix.scaled(if seed.is_multiple_of(2) { 1.0 } else { 0.3 });
    let mut values = noise.floats(tokens * columns);
    // A token whose values are too small to have a scale.
    values[..columns].iter_mut().for_each(|value| *value *= if seed.is_multiple_of(5) { 1e-40 } else { 1.0 });
    let [factors, bias] = [0, 1].map(|_| noise.floats(rows));

    let mut x = Activations::new();
    x.compute(
        &kernels,
        [tokens, columns],
        weight_type.codes(),
        [(&mut values, columns)],
        0,
        |_, [from], row| {
            row.copy_from_slice(from);
        },
    );
    let mut expected = vec![0.0; tokens * rows];
    multiply(&kernels, &x, [(&matrix, &mut expected)]);
    for row in expected.chunks_exact_mut(rows) {
        for ((element, factor), bias) in row.iter_mut().zip(&factors).zip(&bias) {
            *element = *element * factor + bias;
        }
    }

    let on_gpu = GpuMatrix::upload(&bench.gpu, &matrix).unwrap();
    let epilogue = Epilogue {
        factors: Some(bench.memory.add_constants(&factors)),
        bias: Some(bench.memory.add_constants(&bias)),
    };
    let pass = &mut bench.pass;
    let values = Rows { at: pass.put_floats(values), width: columns, count: tokens };
    let mut codes = |is_needed: bool, width| is_needed.then(|| Codes::new(pass, tokens, columns, width));
    let form = weight_type.packed_form();
    let blocks = codes(matches!(form, PackedForm::Blocks { .. }), 32);
    let super_blocks = codes(matches!(form, PackedForm::SuperBlocks { .. }), 256);
    let input = Input { values, blocks, super_blocks };
    input.quantize(&bench.gpu, pass);
    // Behind each row of results stands something that stays.
    let wide = rows + 3;
    let at = pass.put_floats(vec![7.0; tokens * wide]);
    on_gpu.multiply(&bench.gpu, pass, &input, epilogue, Rows { at, width: wide, count: tokens });
    pass.read(at..at + tokens * wide);
    let found = bench.memory.run(&bench.gpu, pass).unwrap();
    let expected: Vec<f32> =
        expected.chunks_exact(rows).flat_map(|row| row.iter().copied().chain([7.0; 3])).collect();
    assert!(
        bits(&found) == bits(&expected),
        "{weight_type}, {rows} x {columns}, {tokens} tokens, seed {seed}"
    );
}

#[test]
fn products_have_the_bits_of_the_cpu_for_every_weight_type() {
    for weight_type in WeightType::ALL {
        for (seed, tokens) in [(1, 1), (2, 2), (5, 3), (10, 7), (3, 40)] {
            check(weight_type, [37, 512], tokens, seed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_of_any_shape_have_the_bits_of_the_cpu(
        weight_type in prop::sample::select(&WeightType::ALL[..]),
        rows in 1usize..70,
        columns in 1usize..9,
        tokens in 1usize..70,
        seed in any::<u64>(),
    ) {
        let columns = if weight_type.is_quantized() { 256 * columns } else { 37 * columns };
        check(weight_type, [rows, columns], tokens, seed);
    }
}
