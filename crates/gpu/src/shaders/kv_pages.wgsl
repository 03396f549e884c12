// Where keys and values lie in a layer's pages. A place is a slot times PAGE_ROWS, and a row of its page.

/// Dimensions that share a scale.
const BLOCK = 32u;

const KEY_WORDS = (KEY_DIM + WORD_DIMS - 1u) / WORD_DIMS;
const VALUE_WORDS = (VALUE_DIM + WORD_DIMS - 1u) / WORD_DIMS;
const KEY_SCALES = SCALES * ((KEY_DIM + BLOCK - 1u) / BLOCK);
const VALUE_SCALES = SCALES * ((VALUE_DIM + BLOCK - 1u) / BLOCK);
/// Words of a row of a head.
const KEY_ROW = KEY_WORDS + KEY_SCALES;
const VALUE_ROW = VALUE_WORDS + VALUE_SCALES;
/// Where the values of a page begin, and where it ends.
const VALUES = KV_HEADS * PAGE_ROWS * KEY_ROW;
const PAGE_WORDS = VALUES + KV_HEADS * PAGE_ROWS * VALUE_ROW;

/// A key's word: `[head][word, then scale][row]`, so that neighbours are neighbouring rows.
fn key_at(place: u32, head: u32, word: u32) -> u32 {
    return place / PAGE_ROWS * PAGE_WORDS + (head * KEY_ROW + word) * PAGE_ROWS + place % PAGE_ROWS;
}

fn values_at(place: u32, head: u32) -> u32 {
    return place / PAGE_ROWS * PAGE_WORDS + VALUES + head * VALUE_ROW * PAGE_ROWS;
}

/// A value's word: `[head]`, then `[row][word]`, so that neighbours are neighbouring dimensions.
fn value_at(place: u32, head: u32, word: u32) -> u32 {
    return values_at(place, head) + place % PAGE_ROWS * VALUE_WORDS + word;
}

/// A value's scale: behind the words of the head's values, `[row][block]`.
fn value_scale_at(place: u32, head: u32, block: u32) -> u32 {
    return values_at(place, head) + VALUE_WORDS * PAGE_ROWS + place % PAGE_ROWS * VALUE_SCALES + block;
}
