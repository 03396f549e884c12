// Codes with scales to every 32 columns, or to every 16: the terms are the exact sums of products of both halves.

/// Scale `scale` of row `row` of the block at `at`; minima are the scales behind the scales.
fn scale_of(at: u32, scale: u32, row: u32) -> f32 {
    let word = operand[at + 8u * scale + (row >> 1u)];
    if POWERS_OF_TWO {
        return bitcast<f32>((word >> (16u * (row & 1u))) << 16u);
    }
    return half_of(word, row);
}

fn terms(unit: u32, at: u32, row: u32, first: u32) -> array<vec2<i32>, T> {
    var sums: array<vec2<i32>, T>;
    for (var t = 0u; t < T; t++) {
        sums[t] = vec2<i32>(0, 0);
    }
    for (var vector = 0u; vector < 4u; vector++) {
        let low = weights(at + HEAD_WORDS, vector, row);
        let high = weights(at + HEAD_WORDS, vector + 4u, row);
        for (var t = 0u; t < T; t++) {
            let token = token_of(first, t);
            sums[t] += vec2<i32>(
                dot4I8Packed(low, inputs(token, 8u * unit + vector)),
                dot4I8Packed(high, inputs(token, 8u * unit + vector + 4u)),
            );
        }
    }
    if OFFSET > 0 {
        for (var t = 0u; t < T; t++) {
            let token = token_of(first, t);
            sums[t] -= OFFSET * vec2<i32>(sum_of_half(token, 2u * unit), sum_of_half(token, 2u * unit + 1u));
        }
    }
    return sums;
}

fn add_terms(element: f32, unit: u32, at: u32, row: u32, token: u32, sums: vec2<i32>) -> f32 {
    let x = p.scales + 2u * (token * p.units + unit);
    let x_scale = floats[x];
    if SCALES == 2u {
        let half = multiply_add(scale_of(at, 0u, row) * x_scale, f32(sums.x), element);
        return multiply_add(scale_of(at, 1u, row) * x_scale, f32(sums.y), half);
    }
    let scaled = multiply_add(scale_of(at, 0u, row) * x_scale, f32(sums.x + sums.y), element);
    if HAS_MINIMUM {
        return multiply_add(scale_of(at, 1u, row), floats[x + 1u], scaled);
    }
    return scaled;
}
