//! Matrix products, and how weights are packed.

use std::ops::{Range, RangeInclusive};

use half::{bf16, f16};
use lookahead_kernels::{
    Activations, Candidate, Isa, Keep, Kept, KeptScratch, Kernels, Matrix, WeightArena, WeightType, add,
    dequantize_row, multiply, multiply_kept, quantize_row,
};
use proptest::prelude::*;

use crate::definition;

/// A deterministic stream of bytes.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    /// Around zero, with exact zeros of both signs and denormals among them.
    fn float(&mut self) -> f32 {
        match self.next() % 32 {
            0 => 0.0,
            1 => -0.0,
            2 => f32::from_bits(self.next() as u32 & 0x007f_ffff),
            _ => (self.next() as u16 as f32 / 32768.0 - 1.0) * 3.0,
        }
    }
}

/// Puts halves in their places in a block: its scale, and that of its minimum.
fn put_halves(weight_type: WeightType, block: &mut [u8], mut half: impl FnMut() -> [u8; 2]) {
    if weight_type == WeightType::Iq1M {
        // A nibble at the end of each of four words.
        for (i, nibble) in half().into_iter().flat_map(|byte| [byte & 15, byte >> 4]).enumerate() {
            block[49 + 2 * i] = block[49 + 2 * i] & 15 | nibble << 4;
        }
        return;
    }
    let first = match weight_type {
        WeightType::Tq1_0 => 52,
        WeightType::Tq2_0 => 64,
        WeightType::Q2K => 80,
        WeightType::Q3K => 108,
        WeightType::Q6K => 208,
        _ => 0,
    };
    block[first..first + 2].copy_from_slice(&half());
    if weight_type.minimum_sign() != 0.0 {
        block[first + 2..first + 4].copy_from_slice(&half());
    }
}

/// Rows of random blocks with sane scales: any codes, finite halves.
fn random_weights(weight_type: WeightType, weights: usize, noise: &mut Noise) -> Vec<u8> {
    let mut bytes = Vec::new();
    let blocks = weights / weight_type.block_weights();
    for _ in 0..blocks {
        let mut block: Vec<u8> = (0..weight_type.block_bytes()).map(|_| noise.next() as u8).collect();
        let half = |noise: &mut Noise| f16::from_f32(noise.float() / 64.0).to_le_bytes();
        match weight_type {
            WeightType::F32 => block.copy_from_slice(&noise.float().to_le_bytes()),
            WeightType::F16 => block.copy_from_slice(&half(noise)),
            WeightType::Bf16 => block.copy_from_slice(&bf16::from_f32(noise.float()).to_le_bytes()),
            WeightType::Mxfp4 => block[0] = 118 + noise.next() as u8 % 9,
            // Its scales are finite, whatever their bits.
            WeightType::Nvfp4 => {}
            _ => put_halves(weight_type, &mut block, || half(noise)),
        }
        bytes.extend(block);
    }
    bytes
}

fn activations(
    kernels: &Kernels,
    weight_type: WeightType,
    values: &mut [f32],
    columns: usize,
) -> Activations {
    let mut x = Activations::new();
    let shape = [values.len() / columns, columns];
    x.compute(kernels, shape, weight_type.codes(), [(values, columns)], 0, |_, [from], row| {
        row.copy_from_slice(from);
    });
    x
}

fn random_activations(
    kernels: &Kernels,
    weight_type: WeightType,
    tokens: usize,
    columns: usize,
    noise: &mut Noise,
) -> Activations {
    let mut values: Vec<f32> = (0..tokens * columns).map(|_| noise.float()).collect();
    activations(kernels, weight_type, &mut values, columns)
}

/// Multiplies on every instruction set and number of threads and compares bits with the definition. Any number of tokens are the first of
/// the same: what an element is depends on its token alone.
fn check_product(
    weight_type: WeightType,
    [rows, columns]: [usize; 2],
    tokens: RangeInclusive<usize>,
    seed: u64,
) {
    let mut noise = Noise(seed);
    let bytes = random_weights(weight_type, rows * columns, &mut noise);
    let row_bytes = weight_type.row_bytes(columns).unwrap();
    let scalar = Kernels::with_isa(Isa::SCALAR, 1);
    let values: Vec<f32> = (0..tokens.end() * columns).map(|_| noise.float()).collect();
    let of_tokens =
        |tokens| activations(&scalar, weight_type, &mut values[..tokens * columns].to_vec(), columns);
    let all = of_tokens(*tokens.end());
    let expected: Vec<u32> = (0..all.tokens())
        .flat_map(|token| {
            let all = &all;
            bytes
                .chunks(row_bytes)
                .map(move |row| definition::element(weight_type, row, all, token).to_bits())
        })
        .collect();
    let kernels: Vec<Kernels> = Isa::available()
        .into_iter()
        .flat_map(|isa| (1..=4).map(move |threads| Kernels::with_isa(isa, threads)))
        .collect();
    let mut arena = WeightArena::new();
    let mut pack = |kernels| Matrix::pack(kernels, &mut arena, weight_type, [rows, columns], &bytes);
    let matrices: Vec<Matrix> = kernels.iter().map(|kernels| pack(kernels).unwrap()).collect();
    for tokens in tokens {
        let x = of_tokens(tokens);
        for (kernels, matrix) in kernels.iter().zip(&matrices) {
            let mut out = vec![f32::NAN; tokens * rows];
            multiply(kernels, &x, [(matrix, &mut out)]);
            let found: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
            assert_eq!(
                found,
                expected[..tokens * rows],
                "{weight_type} {rows}x{columns}, {tokens} tokens, {:?}, {} threads",
                kernels.isa(),
                kernels.threads()
            );
        }
    }
}

#[test]
fn every_kernel_gives_the_bits_of_the_definition_for_1_to_64_tokens() {
    // A thread a type: the longest test of all where an emulator runs it.
    std::thread::scope(|scope| {
        for weight_type in WeightType::ALL {
            scope.spawn(move || check_product(weight_type, [21, 256], 1..=64, 1));
        }
    });
}

/// So many random cases, or fewer where that is asked for.
fn at_most(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.min(cases), ..config }
}

proptest! {
    #![proptest_config(at_most(48))]
    #[test]
    fn every_kernel_gives_the_bits_of_the_definition_for_any_shape(
        weight_type in prop::sample::select(WeightType::ALL.to_vec()),
        rows in 1usize..80,
        blocks in 1usize..5,
        tokens in 1usize..12,
        seed: u64,
    ) {
        let columns = blocks * weight_type.block_weights().max(16);
        check_product(weight_type, [rows, columns], tokens..=tokens, seed);
    }

    #[test]
    fn a_packed_row_dequantizes_to_the_floats_of_the_file(
        weight_type in prop::sample::select(WeightType::ALL.to_vec()),
        rows in 1usize..20,
        seed: u64,
    ) {
        let columns = 512;
        let kernels = Kernels::with_isa(Isa::SCALAR, 1);
        let bytes = random_weights(weight_type, rows * columns, &mut Noise(seed));
        let matrix = Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [rows, columns], &bytes).unwrap();
        let (mut found, mut expected) = (vec![0.0; columns], vec![0.0; columns]);
        for (row, bytes) in bytes.chunks(weight_type.row_bytes(columns).unwrap()).enumerate() {
            matrix.dequantize_row(row, &mut found);
            dequantize_row(weight_type, bytes, &mut expected);
            prop_assert_eq!(&found, &expected);
        }
    }
}

#[test]
fn a_scale_multiplies_the_elements_of_products_and_the_weights() {
    let mut noise = Noise(5);
    for weight_type in WeightType::ALL {
        let bytes = random_weights(weight_type, 21 * 256, &mut noise);
        for isa in Isa::available() {
            let kernels = Kernels::with_isa(isa, 1);
            // So many that tiles of AMX take them, too.
            let x = random_activations(&kernels, weight_type, 9, 256, &mut noise);
            let pack =
                || Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [21, 256], &bytes).unwrap();
            let (matrix, scaled) = (pack(), pack().scaled(0.3));
            let (mut expected, mut found) = ([0.0; 9 * 21], [0.0; 9 * 21]);
            multiply(&kernels, &x, [(&matrix, &mut expected)]);
            multiply(&kernels, &x, [(&scaled, &mut found)]);
            assert_eq!(found, expected.map(|element| element * 0.3), "{weight_type} {isa:?}");
            let (mut expected, mut found) = ([0.0; 256], [0.0; 256]);
            matrix.dequantize_row(20, &mut expected);
            scaled.dequantize_row(20, &mut found);
            assert_eq!(found, expected.map(|weight| weight * 0.3), "{weight_type} {isa:?}");
        }
    }
}

#[test]
fn a_group_that_is_not_full_ends_with_the_rows_of_the_matrix() {
    check_product(WeightType::F32, [33, 16], 1..=1, 0);
}

#[test]
fn a_large_matrix_is_packed_in_steps_as_small_matrices_of_its_rows_are() {
    for weight_type in [WeightType::F16, WeightType::Q8_0, WeightType::Q6K] {
        let kernels = Kernels::new(2);
        let columns = 2048;
        let row_bytes = weight_type.row_bytes(columns).unwrap();
        // Two whole steps and a few rows, the last group not full; the same 97 rows over and over.
        let rows = (32 << 20) / row_bytes + 45;
        let pattern = random_weights(weight_type, 97 * columns, &mut Noise(3));
        let bytes: Vec<u8> = pattern.iter().copied().cycle().take(rows * row_bytes).collect();
        let pack = |rows: Range<usize>, after_step: &mut dyn FnMut()| {
            let bytes = &bytes[rows.start * row_bytes..rows.end * row_bytes];
            let shape = [rows.len(), columns];
            let mut arena = WeightArena::new();
            Matrix::pack_in_steps(&kernels, &mut arena, weight_type, shape, bytes, after_step).unwrap()
        };
        let mut steps = 0;
        let whole = pack(0..rows, &mut || steps += 1);
        assert_eq!(steps, 3, "{weight_type}: a step for 16 MiB, and one for the rest");
        let (mut found, mut expected) = (vec![0.0; columns], vec![0.0; columns]);
        let part = pack(0..97, &mut || {});
        for row in 0..rows {
            whole.dequantize_row(row, &mut found);
            part.dequantize_row(row % 97, &mut expected);
            assert!(found == expected, "{weight_type}, row {row}");
        }
    }
}

#[test]
fn the_largest_codes_and_activations_do_not_overflow_the_narrow_sums() {
    for weight_type in WeightType::ALL.into_iter().filter(|t| t.is_quantized()) {
        for fill in [0x00, 0xff, 0x80, 0x7f] {
            let columns = 256;
            let mut bytes = vec![fill; weight_type.row_bytes(columns).unwrap()];
            for block in bytes.chunks_mut(weight_type.block_bytes()) {
                put_halves(weight_type, block, || f16::ONE.to_le_bytes());
            }
            for sign in [1.0, -1.0] {
                let kernels = Kernels::with_isa(Isa::SCALAR, 1);
                let x = activations(&kernels, weight_type, &mut vec![sign; columns], columns);
                let expected = definition::element(weight_type, &bytes, &x, 0);
                for isa in Isa::available() {
                    let kernels = Kernels::with_isa(isa, 1);
                    let matrix =
                        Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [1, columns], &bytes)
                            .unwrap();
                    let mut out = [0.0];
                    multiply(&kernels, &x, [(&matrix, &mut out)]);
                    assert_eq!(out[0].to_bits(), expected.to_bits(), "{weight_type} {fill:#x} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn several_products_in_one_operator_are_those_of_several_operators() {
    let mut noise = Noise(7);
    let kernels = Kernels::new(2);
    let x = random_activations(&kernels, WeightType::Q4K, 5, 256, &mut noise);
    let matrices: Vec<Matrix> = [(WeightType::Q4K, 300), (WeightType::F16, 40), (WeightType::Q6K, 9)]
        .into_iter()
        .map(|(weight_type, rows)| {
            let bytes = random_weights(weight_type, rows * 256, &mut noise);
            Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [rows, 256], &bytes).unwrap()
        })
        .collect();
    let [a, b, c] = &matrices[..] else { unreachable!() };
    let (mut x1, mut x2, mut x3) = (vec![0.0; 1500], vec![0.0; 200], vec![0.0; 45]);
    multiply(&kernels, &x, [(a, &mut x1), (b, &mut x2), (c, &mut x3)]);
    for (matrix, together) in [(a, x1), (b, x2), (c, x3)] {
        let mut alone = vec![0.0; together.len()];
        multiply(&kernels, &x, [(matrix, &mut alone)]);
        assert_eq!(alone, together);
    }
}

/// The greatest outputs of each token, ranked by a full sort.
fn best_by_sorting(logits: &[f32], rows: usize, ranks: usize) -> Vec<Candidate> {
    let mut best = Vec::new();
    for row in logits.chunks(rows) {
        let mut all: Vec<Candidate> =
            row.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
        all.retain(|candidate| !candidate.logit.is_nan());
        all.sort_by(Candidate::by_rank);
        all.resize(ranks, Candidate::NONE);
        best.extend(all);
    }
    best
}

proptest! {
    #![proptest_config(at_most(32))]
    #[test]
    fn what_is_kept_of_a_product_is_the_row_or_the_first_of_it_sorted(
        weight_type in prop::sample::select(WeightType::ALL.to_vec()),
        rows in prop::sample::select(vec![1usize, 15, 16, 17, 100, 3000]),
        keep in prop::collection::vec(
            prop_oneof![Just(Keep::Row), (0usize..9).prop_map(Keep::Best), Just(Keep::Best(100))], 1..9,
        ),
        with_bias: bool,
        seed: u64,
    ) {
        let mut noise = Noise(seed);
        let mut bytes = random_weights(weight_type, rows * 256, &mut noise);
        // Ties: the second half of the rows repeats the first.
        let half = rows / 2 * weight_type.row_bytes(256).unwrap();
        let (first, second) = bytes.split_at_mut(half);
        second[..half].copy_from_slice(first);
        let mut bias: Vec<f32> = (0..rows).map(|row| (row % 3) as f32).collect();
        bias[rows / 2] = f32::NAN;
        bias[rows / 3] = f32::NEG_INFINITY;
        let bias = with_bias.then_some(&bias[..]);
        let mut scratch = KeptScratch::default();
        let tokens = keep.len();
        for isa in Isa::available() {
            for threads in 1..=4 {
                let kernels = Kernels::with_isa(isa, threads);
                let x = random_activations(&kernels, weight_type, tokens, 256, &mut noise);
                let matrix =
                    Matrix::pack(&kernels, &mut WeightArena::new(), weight_type, [rows, 256], &bytes).unwrap();
                let mut logits = vec![0.0; tokens * rows];
                multiply(&kernels, &x, [(&matrix, &mut logits)]);
                for row in logits.chunks_mut(rows) {
                    row.iter_mut().zip(bias.unwrap_or_default()).for_each(|(logit, bias)| *logit += bias);
                }
                let (mut expected_rows, mut expected_best) = (Vec::new(), Vec::new());
                for (row, keep) in logits.chunks(rows).zip(&keep) {
                    match *keep {
                        Keep::Row => expected_rows.extend(row.iter().map(|logit| logit.to_bits())),
                        Keep::Best(ranks) => expected_best.extend(best_by_sorting(row, rows, ranks)),
                    }
                }
                let mut whole = vec![f32::NAN; expected_rows.len()];
                let mut best = vec![Candidate { token: 7, logit: f32::NAN }; expected_best.len()];
                let add_bias = |rows: Range<usize>, logits: &mut [f32]| {
                    if let Some(bias) = bias {
                        add(isa, logits, &bias[rows]);
                    }
                };
                let kept = Kept { keep: &keep, rows: &mut whole, best: &mut best };
                multiply_kept(&kernels, &x, &matrix, add_bias, &mut scratch, kept);
                prop_assert_eq!(&best, &expected_best, "{:?} {}", isa, threads);
                let whole: Vec<u32> = whole.iter().map(|logit| logit.to_bits()).collect();
                prop_assert_eq!(&whole, &expected_rows, "{:?} {}", isa, threads);
            }
        }
    }
}

#[test]
fn bytes_of_another_size_are_refused() {
    let kernels = Kernels::with_isa(Isa::SCALAR, 1);
    assert_eq!(
        Matrix::pack(&kernels, &mut WeightArena::new(), WeightType::Q4_0, [2, 48], &[0; 54])
            .unwrap_err()
            .to_string(),
        "rows of 48 weights are no whole number of Q4_0 blocks of 32"
    );
    assert_eq!(
        Matrix::pack(&kernels, &mut WeightArena::new(), WeightType::F16, [2, 3], &[0; 13])
            .unwrap_err()
            .to_string(),
        "2 rows of 3 F16 weights need 12 bytes, not 13"
    );
}

#[test]
fn a_matrix_is_made_into_another_type_row_by_row() {
    let kernels = Kernels::with_isa(Isa::SCALAR, 2);
    let values: Vec<f32> = (0..40 * 256).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.4).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    for to in WeightType::WRITABLE {
        let types = [WeightType::F32, to];
        let matrix =
            Matrix::pack_as(&kernels, &mut WeightArena::new(), types, [40, 256], &bytes, || {}).unwrap();
        assert_eq!((matrix.weight_type(), matrix.rows()), (to, 40));
        for (row, values) in values.chunks(256).enumerate() {
            let mut stored = vec![0; to.row_bytes(256).unwrap()];
            quantize_row(Isa::SCALAR, to, values, &mut stored);
            let (mut expected, mut found) = ([0.0; 256], [0.0; 256]);
            dequantize_row(to, &stored, &mut expected);
            matrix.dequantize_row(row, &mut found);
            assert_eq!(found, expected, "{to}, row {row}");
        }
    }
}

#[test]
fn packed_weights_are_groups_of_sixteen_rows_filled_up_with_zeros() {
    let kernels = Kernels::new(1);
    let weights: Vec<u8> = (0..20 * 3).flat_map(|weight| (weight as f32).to_le_bytes()).collect();
    let matrix = Matrix::pack(&kernels, &mut WeightArena::new(), WeightType::F32, [20, 3], &weights).unwrap();
    let matrix = matrix.scaled(0.5).scaled(3.0);
    assert_eq!((matrix.packed().len(), matrix.scale()), (2 * matrix.group_bytes(), 1.5));
    let floats: Vec<f32> =
        matrix.packed().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    for (place, float) in floats.into_iter().enumerate() {
        let (group, column, row) = (place / 48, place / 16 % 3, place % 16);
        let expected = if 16 * group + row < 20 { (16 * group + row) * 3 + column } else { 0 };
        assert_eq!(float, expected as f32, "group {group}, column {column}, row {row}");
    }
}
