// Codes with integer scales, 256 columns to a half: the terms are the exact sum of products times scales, and that of minima times the
// negated sums of the token's codes.

/// Byte `index` of row `row` among the bytes in vectors at `at`.
fn byte_of(at: u32, index: u32, row: u32) -> i32 {
    return i32((operand[at + 16u * (index / 4u) + row] >> (8u * (index % 4u))) & 0xffu);
}

/// The sum of the codes of a token that integer scale `scale` belongs to.
fn sum_of_part(token: u32, unit: u32, scale: u32) -> i32 {
    if SCALES == 2u {
        return sum_of_half(token, 16u * unit + scale);
    }
    return sum_of_half(token, 16u * unit + 2u * scale) + sum_of_half(token, 16u * unit + 2u * scale + 1u);
}

fn terms(unit: u32, at: u32, row: u32, first: u32) -> array<vec2<i32>, T> {
    var sums: array<vec2<i32>, T>;
    for (var t = 0u; t < T; t++) {
        sums[t] = vec2<i32>(0, 0);
    }
    const VECTORS: u32 = 8u / SCALES;
    for (var scale = 0u; scale < 8u * SCALES; scale++) {
        var products: array<i32, T>;
        for (var t = 0u; t < T; t++) {
            products[t] = 0;
        }
        let block = scale / SCALES;
        for (var v = 0u; v < VECTORS; v++) {
            let vector = (scale % SCALES) * VECTORS + v;
            let w = weights(at + HEAD_WORDS + block * CODE_WORDS, vector, row);
            for (var t = 0u; t < T; t++) {
                products[t] += dot4I8Packed(w, inputs(token_of(first, t), 64u * unit + 8u * block + vector));
            }
        }
        let factor = byte_of(at + SCALE_WORD, scale, row) - 128;
        var minimum = 0;
        if HAS_MINIMUM {
            minimum = byte_of(at + MINIMUM_WORD, scale, row);
        }
        for (var t = 0u; t < T; t++) {
            if OFFSET > 0 || HAS_MINIMUM {
                let sum = sum_of_part(token_of(first, t), unit, scale);
                sums[t] += vec2<i32>(factor * (products[t] - OFFSET * sum), -(minimum * sum));
            } else {
                sums[t].x += factor * products[t];
            }
        }
    }
    return sums;
}

fn add_terms(element: f32, unit: u32, at: u32, row: u32, token: u32, sums: vec2<i32>) -> f32 {
    let x_scale = floats[p.scales + token * p.units + unit];
    var d = half_of(operand[at + (row >> 1u)], row);
    if UNIT != 1.0f {
        d = d * UNIT;
    }
    let scaled = multiply_add(d * x_scale, f32(sums.x), element);
    if HAS_MINIMUM {
        let d_min = half_of(operand[at + 8u + (row >> 1u)], row);
        return multiply_add(d_min * x_scale, f32(sums.y), scaled);
    }
    return scaled;
}
