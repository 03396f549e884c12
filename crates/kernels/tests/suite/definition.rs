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

/// K-quants have one scale of activations to 256 columns, and integer scales of their blocks; all others have floats to every 32.
fn quantized_element(weight_type: WeightType, row: &[u8], x: &[f32]) -> f32 {
    let mut element = 0.0f32;
    let columns = weight_type.block_weights();
    for (bytes, x) in row.chunks_exact(weight_type.block_bytes()).zip(x.chunks(columns)) {
        let (x_scale, codes) = codes(x);
        let (mut scale, mut minimum_scale) = (0.0, 0.0);
        let (mut sum, mut minima) = (0, 0);
        let mut code_blocks = codes.chunks(BLOCK);
        decode_block(weight_type, bytes, |block: Block| {
            let codes = code_blocks.next().expect("as many activations as weights");
            (scale, minimum_scale) = (block.scale(weight_type), block.minimum_scale(weight_type));
            for (i, code) in codes.iter().enumerate() {
                sum += block.integer(weight_type, i) * code;
                minima += block.integer_minimum(i) * code;
            }
        });
        element = (scale * x_scale).mul_add(sum as f32, element);
        if weight_type.minimum_sign() != 0.0 {
            element = if columns == BLOCK {
                minimum_scale.mul_add(x_scale * minima as f32, element)
            } else {
                (minimum_scale * x_scale).mul_add(minima as f32, element)
            };
        }
    }
    element
}
