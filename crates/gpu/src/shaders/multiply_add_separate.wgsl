/// a * b + c, rounded twice: the device has no other way.
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    return a * b + c;
}
