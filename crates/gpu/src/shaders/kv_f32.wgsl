// Single precision: a word is a value.

const WORD_DIMS = 1u;
/// Whether blocks of dimensions have scales.
const SCALES = 0u;

fn encode(x: f32, inverse: f32) -> u32 {
    return bitcast<u32>(x);
}

fn decode(word: u32, part: u32, scale: f32) -> f32 {
    return bitcast<f32>(word);
}
