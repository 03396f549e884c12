/// The half of the low or high 16 bits of `word`, widened.
fn half_of(word: u32, index: u32) -> f32 {
    let bits = (word >> (16u * (index & 1u))) & 0xffffu;
    let sign = (bits & 0x8000u) << 16u;
    let magnitude = bits & 0x7fffu;
    if magnitude >= 0x7c00u {
        return bitcast<f32>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13u);
    }
    if magnitude < 0x400u {
        // Below the normal ones: so many times 2^-24, which is exact.
        return bitcast<f32>(sign | bitcast<u32>(f32(magnitude) * 5.9604645e-8f));
    }
    return bitcast<f32>(sign | (magnitude << 13u) + 0x38000000u);
}

