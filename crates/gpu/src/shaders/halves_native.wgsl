/// The half of the low or high 16 bits of `word`, widened: the device's own.
fn half_of(word: u32, index: u32) -> f32 {
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, (index & 1u) == 1u);
}

