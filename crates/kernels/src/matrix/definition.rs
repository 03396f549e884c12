//! What a product is, from the file's bytes, without packing, tiles or vectors. Kernels must give the same bits.

use super::dense::BLOCK;
use crate::block::{decode_block, dequantize_row};
use crate::{Activations, WeightType};

/// The product of one row of a weight tensor, as it lies in the file, with token `token` of `x`.
pub(super) fn element(weight_type: WeightType, row: &[u8], x: &Activations, token: usize) -> f32 {
    if weight_type.is_quantized() {
        quantized_element(weight_type, row, x, token)
    } else {
        dense_element(weight_type, row, x.row(token))
    }
}

fn dense_element(weight_type: WeightType, row: &[u8], x: &[f32]) -> f32 {
    let mut weights = vec![0.0; x.len()];
    dequantize_row(weight_type, row, &mut weights);
    let mut element = 0.0;
    for (weights, x) in weights.chunks(BLOCK).zip(x.chunks(BLOCK)) {
        let mut sum = 0.0f32;
        for (w, x) in weights.iter().zip(x) {
            sum = w.mul_add(*x, sum);
        }
        element += sum;
    }
    element
}

fn quantized_element(weight_type: WeightType, row: &[u8], x: &Activations, token: usize) -> f32 {
    let mut element = 0.0f32;
    let mut b = 0;
    for bytes in row.chunks_exact(weight_type.block_bytes()) {
        decode_block(weight_type, bytes, |block| {
            let [x] = x.quantized(b, token);
            let sum: i32 = (0..32).map(|i| block.integer(weight_type, i) * i32::from(x.codes[i])).sum();
            element = (block.scale(weight_type) * x.scale).mul_add(sum as f32, element);
            if weight_type.minimum_sign() != 0.0 {
                element = block.minimum(weight_type).mul_add(x.scaled_sum, element);
            }
            b += 1;
        });
    }
    element
}
