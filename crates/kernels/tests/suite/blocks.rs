//! Block layouts and rounding against the `gguf` Python package (0.x, NumPy): see `golden/make_dequantize.py` and
//! `golden/make_quantize.py`.

use lookahead_kernels::{Isa, WeightType, dequantize_row, quantize_row};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

#[test]
fn every_quantized_type_dequantizes_to_the_values_of_the_python_package() {
    let golden: Value = serde_json::from_str(include_str!("golden/dequantize.json")).unwrap();
    let quantized: Vec<WeightType> = WeightType::ALL.into_iter().filter(|t| t.is_quantized()).collect();
    assert_eq!(golden.as_object().unwrap().len(), quantized.len());
    for weight_type in quantized {
        let golden = &golden[weight_type.name()];
        let bytes: Vec<u8> = numbers(&golden["bytes"]).into_iter().map(|byte| byte as u8).collect();
        let expected: Vec<f32> = numbers(&golden["value_bits"]).into_iter().map(f32::from_bits).collect();
        let mut found = vec![0.0; expected.len()];
        dequantize_row(weight_type, &bytes, &mut found);
        // The package multiplies in the same precision; the order of factors may differ in the last place.
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let tolerance = expected.abs().max(1e-3) * 2e-7;
            assert!(
                (found - expected).abs() <= tolerance,
                "{weight_type}[{index}]: {found} is not {expected}"
            );
        }
    }
}

#[test]
fn weights_are_rounded_to_the_blocks_of_the_python_package() {
    let golden: Value = serde_json::from_str(include_str!("golden/quantize.json")).unwrap();
    let values: Vec<f32> = numbers(&golden["value_bits"]).into_iter().map(f32::from_bits).collect();
    for weight_type in [WeightType::Q8_0, WeightType::Q4_0] {
        let expected: Vec<u8> =
            numbers(&golden[weight_type.name()]).into_iter().map(|byte| byte as u8).collect();
        let mut found = vec![0; expected.len()];
        quantize_row(Isa::detect(), weight_type, &values, &mut found);
        assert_eq!(found, expected, "{weight_type}");
    }
}
