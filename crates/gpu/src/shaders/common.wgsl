// What all operators share: buffers, and arithmetic whose bits are the CPU's.

@group(0) @binding(0) var<storage, read_write> floats: array<f32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<storage, read> constants: array<f32>;

/// e^x, step by step as the CPU's.
fn exponential(x: f32) -> f32 {
    let clamped = select(x, 88.37626f, x > 88.37626f);
    let shifted = multiply_add(clamped, 1.44269504f, 12582912.0f);
    let n = shifted - 12582912.0f;
    let r = multiply_add(n, 2.1219444e-4f, multiply_add(n, -0.6933594f, clamped));
    var p = 1.9875691e-4f;
    p = multiply_add(p, r, 1.3982e-3f);
    p = multiply_add(p, r, 8.333452e-3f);
    p = multiply_add(p, r, 4.1665796e-2f);
    p = multiply_add(p, r, 1.6666665e-1f);
    p = multiply_add(p, r, 5e-1f);
    let mantissa = multiply_add(p, r * r, r) + 1.0f;
    let power = bitcast<f32>((bitcast<u32>(shifted) << 23u) + 0x3f800000u);
    return select(mantissa * power, 0.0f, x < -87.33654f);
}

/// 1 / (1 + e^-x)
fn sigmoid(x: f32) -> f32 {
    return divide(1.0f, 1.0f + exponential(-x));
}

/// tanh x
fn hyperbolic_tangent(x: f32) -> f32 {
    return 1.0f - divide(2.0f, 1.0f + exponential(2.0f * x));
}

/// The bits of the half that is nearest to `x`, ties to even.
fn to_half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | 0x7e00u | (magnitude >> 13u) & 0x3ffu;
    }
    if magnitude >= 0x477ff000u {
        return sign | 0x7c00u;
    }
    if magnitude >= 0x38800000u {
        let rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
        return sign | (rounded - 0x38000000u) >> 13u;
    }
    if magnitude < 0x33000000u {
        return sign;
    }
    // Below the normal halves: the mantissa, moved to units of 2^-24.
    let shift = 126u - (magnitude >> 23u);
    let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    let whole = mantissa >> shift;
    let rest = mantissa & ((1u << shift) - 1u);
    let half_way = 1u << (shift - 1u);
    let up = rest > half_way || (rest == half_way && (whole & 1u) == 1u);
    return sign | (whole + select(0u, 1u, up));
}
