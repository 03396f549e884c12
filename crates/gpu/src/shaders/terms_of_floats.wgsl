// Weights that are floats: the term of 32 columns is the sum of their products.

alias Terms = f32;

/// Of column `column` of the group at `at`.
fn weight(at: u32, column: u32, row: u32) -> f32 {
    if WEIGHT_BITS == 32u {
        return bitcast<f32>(operand[at + 16u * column + row]);
    }
    let word = operand[at + 8u * column + (row >> 1u)];
    if IS_BRAIN {
        return bitcast<f32>((word >> (16u * (row & 1u))) << 16u);
    }
    return half_of(word, row);
}

fn terms(unit: u32, at: u32, row: u32, first: u32) -> array<f32, T> {
    var sums: array<f32, T>;
    for (var t = 0u; t < T; t++) {
        sums[t] = 0.0f;
    }
    for (var i = 0u; i < min(32u, p.columns - 32u * unit); i++) {
        let w = weight(at, i, row);
        for (var t = 0u; t < T; t++) {
            sums[t] = multiply_add(w, floats[p.values + token_of(first, t) * p.columns + 32u * unit + i], sums[t]);
        }
    }
    return sums;
}

fn add_terms(element: f32, unit: u32, at: u32, row: u32, token: u32, sum: f32) -> f32 {
    return element + sum;
}
