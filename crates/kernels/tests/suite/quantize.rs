//! Weights that are written and read again.

use lookahead_kernels::{Isa, WeightType, dequantize_row, quantize_row};
use proptest::prelude::*;

fn back(weight_type: WeightType, row: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; weight_type.row_bytes(row.len()).unwrap()];
    quantize_row(Isa::SCALAR, weight_type, row, &mut bytes);
    for isa in Isa::available() {
        let mut same = vec![0; bytes.len()];
        quantize_row(isa, weight_type, row, &mut same);
        assert_eq!(same, bytes, "{weight_type}, {isa:?}");
    }
    let mut found = vec![0.0; row.len()];
    dequantize_row(weight_type, &bytes, &mut found);
    found
}

proptest! {
    /// No weight is off by more than half a step, and what rounding the step itself adds.
    #[test]
    fn weights_come_back_within_a_step(
        row in prop::collection::vec(prop_oneof![4 => -1f32..1.0, 1 => Just(0.0), 1 => 0f32..30.0], 512),
        offset in -2f32..2.0,
    ) {
        let row: Vec<f32> = row.iter().map(|x| x + offset).collect();
        for weight_type in WeightType::WRITABLE {
            let found = back(weight_type, &row);
            for (x, found) in row.chunks(256).zip(found.chunks(256)) {
                let widest = |blocks: &[f32]| {
                    let (low, high) = blocks.iter().fold((0f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
                    (high - low, high.max(-low))
                };
                for (block, found) in x.chunks(32).zip(found.chunks(32)) {
                    let (range, largest) = widest(block);
                    let (range_of_all, largest_of_all) = widest(x);
                    let tolerance = match weight_type {
                        WeightType::F32 => 0.0,
                        WeightType::F16 => largest / 2048.0,
                        WeightType::Bf16 => largest / 256.0,
                        WeightType::Q8_0 => largest / 127.0 * 0.51 + largest / 2000.0,
                        WeightType::Q4_0 => largest / 8.0 * 1.01,
                        _ => range / 15.0 * 1.6 + range_of_all / 63.0 * 0.51 + largest_of_all / 63.0 * 0.51,
                    };
                    for (x, found) in block.iter().zip(found) {
                        prop_assert!((x - found).abs() <= tolerance + 1e-7, "{weight_type}: {x} became {found}");
                    }
                }
            }
        }
    }
}

#[test]
fn q4_k_is_closer_than_q4_0() {
    // Near normal: sums of uniform numbers.
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let row: Vec<f32> = (0..4096).map(|_| (0..6).map(|_| uniform()).sum::<f32>()).collect();
    let error = |weight_type| -> f32 {
        back(weight_type, &row).iter().zip(&row).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
    };
    let [eight, four, four_k] = [WeightType::Q8_0, WeightType::Q4_0, WeightType::Q4K].map(error);
    assert!(four_k < 0.9 * four && eight < 0.1 * four, "{eight}, {four}, {four_k}");
}

#[test]
fn what_has_no_scale_stays() {
    for weight_type in WeightType::WRITABLE {
        assert_eq!(back(weight_type, &[0.0; 256]), [0.0; 256], "{weight_type}");
    }
}
