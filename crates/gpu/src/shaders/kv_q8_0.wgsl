// Signed bytes: a word is four codes, and a block of dimensions has a scale.

const WORD_DIMS = 4u;
/// Whether blocks of dimensions have scales.
const SCALES = 1u;

/// x * inverse, rounded to nearest, ties to even. It saturates, and makes 0 of what is no number.
fn encode(x: f32, inverse: f32) -> u32 {
    let scaled = x * inverse;
    if !(abs(scaled) < 127.5f) {
        return select(select(0u, 0x7fu, scaled > 0.0f), 0x80u, scaled < 0.0f);
    }
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    return bitcast<u32>(scaled + 12582912.0f) & 0xffu;
}

fn decode(word: u32, part: u32, scale: f32) -> f32 {
    return scale * f32(extractBits(bitcast<i32>(word), 8u * part, 8u));
}
