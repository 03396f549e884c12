/// Whether `other` is nearer than `near` to what leaves these remainders.
fn is_nearer(remainder: f32, other: f32) -> bool {
    return abs(other) < abs(remainder);
}

fn neighbour(x: f32, step: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) + step);
}

/// a / b, rounded to nearest: the device's own quotient is a few floats off at most, and what each leaves is exact.
fn divide(a: f32, b: f32) -> f32 {
    var quotient = a / b;
    if !(abs(quotient) < 3e38f) || quotient == 0.0f || !(abs(b) < 3e38f) {
        return quotient;
    }
    for (var i = 0; i < 4; i++) {
        let left = multiply_add(-quotient, b, a);
        if left == 0.0f {
            break;
        }
        // Towards what is left: away from zero if it has the sign that the product has.
        let away = (left > 0.0f) == ((quotient > 0.0f) == (b > 0.0f));
        let next = neighbour(quotient, select(0xffffffffu, 1u, away));
        if !is_nearer(left, multiply_add(-next, b, a)) {
            break;
        }
        quotient = next;
    }
    return quotient;
}

/// The root of x, rounded to nearest. No root lies in the middle between two floats; of two neighbours, the one is nearer whose square
/// is on the side of x on which the square of their middle is not.
fn square_root(x: f32) -> f32 {
    var root = sqrt(x);
    if !(x > 0.0f) || !(x < 3e38f) {
        return root;
    }
    for (var i = 0; i < 4; i++) {
        let left = multiply_add(-root, root, x);
        if left == 0.0f {
            break;
        }
        let next = neighbour(root, select(0xffffffffu, 1u, left > 0.0f));
        // (x - root^2) beyond half of next^2 - root^2, that is beyond root * (next - root) + (next - root)^2 / 2.
        let step = next - root;
        if !(abs(left) > abs(multiply_add(root, step, 0.5f * (step * step)))) {
            break;
        }
        root = next;
    }
    return root;
}
