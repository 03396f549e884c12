// Half precision: a word is two values.

const WORD_DIMS = 2u;
/// Whether blocks of dimensions have scales.
const SCALES = 0u;

fn encode(x: f32, inverse: f32) -> u32 {
    return to_half(x);
}

fn decode(word: u32, part: u32, scale: f32) -> f32 {
    return half_of(word, part);
}
