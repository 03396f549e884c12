/// a / b: the device's own.
fn divide(a: f32, b: f32) -> f32 {
    return a / b;
}

/// The root of x: the device's own.
fn square_root(x: f32) -> f32 {
    return sqrt(x);
}
