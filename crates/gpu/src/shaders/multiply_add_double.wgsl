/// The float next to `x` on the side of `direction`.
fn next_to(x: f32, direction: f64) -> f32 {
    if x == 0.0f {
        return bitcast<f32>(select(0x80000001u, 1u, direction > 0.0lf));
    }
    let away = (direction > 0.0lf) == (x > 0.0f);
    return bitcast<f32>(bitcast<u32>(x) + select(0xffffffffu, 1u, away));
}

/// a * b + c, rounded once. The product is exact in double precision; the sum is rounded to double precision first, which matters only
/// where that lands in the middle between two floats: what was lost then says which.
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    let product = f64(a) * f64(b);
    let addend = f64(c);
    let sum = product + addend;
    let result = f32(sum);
    let left = sum - f64(result);
    if left == 0.0lf || !(abs(sum) < 3.4028234663852886e38lf) {
        return result;
    }
    // What the sum lost (Knuth, 1969).
    let part = sum - product;
    let lost = (product - (sum - part)) + (addend - part);
    if lost == 0.0lf || (lost > 0.0lf) != (left > 0.0lf) {
        return result;
    }
    let other = next_to(result, left);
    return select(result, other, left + left == f64(other) - f64(result));
}
