//! What a product is, from the file's bytes, without packing, tiles or vectors. Kernels must give the same bits.

use lookahead_kernels::{Activations, Block, WeightType, decode_block, dequantize_row};

/// Columns that are summed before their sum is added to the element.
const BLOCK: usize = 32;

/// The product of one row of a weight tensor, as it lies in the file, with token `token` of `x`.
pub(crate) fn element(weight_type: WeightType, row: &[u8], x: &Activations, token: usize) -> f32 {
    if weight_type.is_quantized() {
        quantized_element(weight_type, row, x.row(token))
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

/// Activations rounded to integers: their scale and codes.
fn codes(x: &[f32]) -> (f32, Vec<i32>) {
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    if scale < f32::MIN_POSITIVE {
        return (0.0, vec![0; x.len()]);
    }
    (scale, x.iter().map(|x| (x * (127.0 / largest)).round_ties_even() as i32).collect())
}

/// K-quants have one scale of activations to 256 columns, and integer scales of their blocks; all others have floats to every 32, or to
/// every 16 of them.
fn quantized_element(weight_type: WeightType, row: &[u8], x: &[f32]) -> f32 {
    let mut weights: Vec<Block> = Vec::new();
    for bytes in row.chunks_exact(weight_type.block_bytes()) {
        decode_block(weight_type, bytes, |block| weights.push(block));
    }
    let mut element = 0.0f32;
    let columns = if weight_type.block_weights() == 256 { 256 } else { BLOCK };
    for (blocks, x) in weights.chunks(columns / BLOCK).zip(x.chunks(columns)) {
        let (x_scale, codes) = codes(x);
        let scaled_together = columns / weight_type.scales_to_a_block();
        for start in (0..columns).step_by(scaled_together) {
            let sum: i32 = (start..start + scaled_together)
                .map(|i| blocks[i / BLOCK].integer(weight_type, i % BLOCK) * codes[i])
                .sum();
            let scale = blocks[start / BLOCK].scale(weight_type, start % BLOCK);
            element = (scale * x_scale).mul_add(sum as f32, element);
        }
        if weight_type.minimum_sign() != 0.0 {
            let minimum_scale = blocks[0].minimum_scale(weight_type);
            let minima: i32 =
                (0..columns).map(|i| blocks[i / BLOCK].integer_minimum(i % BLOCK) * codes[i]).sum();
            element = if columns == BLOCK {
                minimum_scale.mul_add(x_scale * minima as f32, element)
            } else {
                (minimum_scale * x_scale).mul_add(minima as f32, element)
            };
        }
    }
    element
}
