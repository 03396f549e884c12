//! How single keys and values are stored.
//!
//! Keys lie in blocks of sixteen rows, dimension by dimension, so that the lanes of a vector are rows and a dot product
//! needs no sum across lanes. Values lie row by row, and lanes are dimensions. Dimensions are filled up with zeros to
//! whole groups.

use std::fmt;
use std::str::FromStr;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::simd::{GROUP, Simd, first};

/// Dimensions that share a scale in [`KvType::Q8_0`].
const BLOCK: usize = 32;

/// How keys and values are stored. Each choice has its own exact results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Single precision.
    F32,
    /// Half precision, rounded to nearest: half the memory.
    #[default]
    F16,
    /// Signed bytes with a half-precision scale for 32 dimensions, as in [`WeightType::Q8_0`](crate::weight_type::WeightType::Q8_0), but
    /// rounded to nearest even: about a quarter of the memory.
    Q8_0,
}

impl KvType {
    /// Every type, in the order in which help texts list them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Bytes of the keys or the values of one head of `head_dim` dimensions of one token.
    pub const fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => 4 * head_dim.next_multiple_of(GROUP),
            Self::F16 => 2 * head_dim.next_multiple_of(GROUP),
            Self::Q8_0 => (2 + BLOCK) * head_dim.div_ceil(BLOCK),
        }
    }
}

/// A name that no type of KV cache has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of KV cache; there are f32, f16, q8_0")]
pub struct UnknownKvType(String);

impl FromStr for KvType {
    type Err = UnknownKvType;

    fn from_str(name: &str) -> Result<Self, UnknownKvType> {
        Self::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| UnknownKvType(name.to_owned()))
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A storage type's layout. A key's bytes are cut into parts; a block of sixteen rows holds part after part, each of all
/// its rows.
pub(super) trait KvElement {
    /// Bytes of the parts of a key, repeated to its end.
    const KEY_PARTS: &'static [usize];
    fn write_key(head: &mut [u8], row_bytes: usize, row: usize, key: &[f32]);
    fn write_value(row: &mut [u8], value: &[f32]);
    /// Dimension `dim` of the keys of a block of rows.
    fn load_key<S: Simd>(simd: S, block: &[u8], dim: usize, part: usize) -> S::F32;
    /// Group `group` of the dimensions of a value.
    fn load_value<S: Simd>(simd: S, row: &[u8], group: usize, part: usize) -> S::F32;
}

/// Writes `parts` of `N` bytes, one per dimension, to the places of row `row`.
fn scatter<const N: usize>(block: &mut [u8], row: usize, parts: impl ExactSizeIterator<Item = [u8; N]>) {
    debug_assert!(block.len() >= parts.len() * N * GROUP, "a block holds all dimensions");
    for (lanes, part) in block.chunks_exact_mut(N * GROUP).zip(parts) {
        lanes[row * N..][..N].copy_from_slice(&part);
    }
}

/// The block of a head that row `row` lies in, and its place there.
fn block_of(head: &mut [u8], row_bytes: usize, row: usize) -> (&mut [u8], usize) {
    let block_bytes = GROUP * row_bytes;
    (&mut head[row / GROUP * block_bytes..][..block_bytes], row % GROUP)
}

pub(super) struct Single;

impl KvElement for Single {
    const KEY_PARTS: &'static [usize] = &[4];

    fn write_key(head: &mut [u8], row_bytes: usize, row: usize, key: &[f32]) {
        let (block, row) = block_of(head, row_bytes, row);
        scatter(block, row, key.iter().map(|key| key.to_le_bytes()));
    }

    fn write_value(row: &mut [u8], value: &[f32]) {
        for (bytes, value) in row.as_chunks_mut::<4>().0.iter_mut().zip(value) {
            *bytes = value.to_le_bytes();
        }
    }

    #[inline(always)]
    fn load_key<S: Simd>(simd: S, block: &[u8], dim: usize, part: usize) -> S::F32 {
        simd.load_f32(first(&block[4 * GROUP * dim..]), part)
    }

    #[inline(always)]
    fn load_value<S: Simd>(simd: S, row: &[u8], group: usize, part: usize) -> S::F32 {
        simd.load_f32(first(&row[4 * GROUP * group..]), part)
    }
}

pub(super) struct Half;

/// Rounds a head's values, a few at a time, and hands them on.
fn to_halves(values: &[f32], mut emit: impl FnMut(usize, &[f16])) {
    let mut halves = [f16::ZERO; 64];
    for (chunk, values) in values.chunks(64).enumerate() {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        emit(chunk * 64, halves);
    }
}

impl KvElement for Half {
    const KEY_PARTS: &'static [usize] = &[2];

    fn write_key(head: &mut [u8], row_bytes: usize, row: usize, key: &[f32]) {
        let (block, row) = block_of(head, row_bytes, row);
        to_halves(key, |dim, halves| {
            scatter(&mut block[2 * GROUP * dim..], row, halves.iter().map(|half| half.to_le_bytes()));
        });
    }

    fn write_value(row: &mut [u8], value: &[f32]) {
        to_halves(value, |dim, halves| {
            for (bytes, half) in row[2 * dim..].as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                *bytes = half.to_le_bytes();
            }
        });
    }

    #[inline(always)]
    fn load_key<S: Simd>(simd: S, block: &[u8], dim: usize, part: usize) -> S::F32 {
        simd.load_f16(first(&block[2 * GROUP * dim..]), part)
    }

    #[inline(always)]
    fn load_value<S: Simd>(simd: S, row: &[u8], group: usize, part: usize) -> S::F32 {
        simd.load_f16(first(&row[2 * GROUP * group..]), part)
    }
}

/// A block of 32 dimensions is its scale, then its codes.
pub(super) struct Byte;

/// Scale and codes of up to 32 values: `max|x| / 127`, and `x * (127 / max|x|)` rounded to nearest, ties to even, as activations
/// are. [`quantize_row`](crate::quantize::quantize_row) multiplies by the inverse of the scale instead and rounds ties away from zero, as the
/// writers of files do; so some of its codes are another by one.
fn to_bytes(values: &[f32]) -> (f16, [u8; BLOCK]) {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut codes = [0; BLOCK];
    for (code, value) in codes.iter_mut().zip(values) {
        // Saturates, and makes 0 of what is no number.
        *code = (value * inverse).round_ties_even() as i8 as u8;
    }
    (scale, codes)
}

impl KvElement for Byte {
    const KEY_PARTS: &'static [usize] =
        &[2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

    fn write_key(head: &mut [u8], row_bytes: usize, row: usize, key: &[f32]) {
        let (block, row) = block_of(head, row_bytes, row);
        let blocks = block.chunks_exact_mut(GROUP * (2 + BLOCK));
        for (block, key) in blocks.zip(key.chunks(BLOCK)) {
            let (scale, codes) = to_bytes(key);
            block[2 * row..][..2].copy_from_slice(&scale.to_le_bytes());
            scatter(&mut block[2 * GROUP..], row, codes.iter().map(|&code| [code]));
        }
    }

    fn write_value(row: &mut [u8], value: &[f32]) {
        for (block, value) in row.chunks_exact_mut(2 + BLOCK).zip(value.chunks(BLOCK)) {
            let (scale, codes) = to_bytes(value);
            block[..2].copy_from_slice(&scale.to_le_bytes());
            block[2..].copy_from_slice(&codes);
        }
    }

    #[inline(always)]
    fn load_key<S: Simd>(simd: S, block: &[u8], dim: usize, part: usize) -> S::F32 {
        let block = &block[dim / BLOCK * GROUP * (2 + BLOCK)..];
        let scale = simd.load_f16(first(block), part);
        let codes = simd.i32_load_i8(first(&block[GROUP * (2 + dim % BLOCK)..]), part);
        simd.mul(scale, simd.i32_to_f32(codes))
    }

    #[inline(always)]
    fn load_value<S: Simd>(simd: S, row: &[u8], group: usize, part: usize) -> S::F32 {
        let block = &row[group / 2 * (2 + BLOCK)..];
        let scale = f16::from_le_bytes(*first(block)).to_f32_const();
        let codes = simd.i32_load_i8(first(&block[2 + group % 2 * GROUP..]), part);
        simd.mul(simd.splat(scale), simd.i32_to_f32(codes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quantize::quantize_row;
    use crate::simd::Isa;
    use crate::weight_type::WeightType;

    /// The signed codes.
    fn codes_of(values: &[f32]) -> (f16, [i8; BLOCK]) {
        let (scale, codes) = to_bytes(values);
        (scale, codes.map(|code| code as i8))
    }

    proptest! {
        #[test]
        fn codes_are_rounded_to_even_and_within_one_of_those_of_files(
            values in prop::array::uniform32(prop_oneof![4 => -8f32..8.0, 1 => Just(0.0), 1 => -1e-3f32..1e-3])
        ) {
            let (scale, codes) = codes_of(&values);
            let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            prop_assert_eq!(scale, f16::from_f32(largest / 127.0));
            let mut file = [0; 34];
            quantize_row(Isa::SCALAR, WeightType::Q8_0, &values, &mut file);
            prop_assert_eq!(scale.to_le_bytes(), [file[0], file[1]]);
            for ((value, code), in_file) in values.iter().zip(codes).zip(&file[2..]) {
                let exact = if largest == 0.0 { 0.0 } else { value * (127.0 / largest) };
                prop_assert_eq!(f32::from(code), exact.round_ties_even() + 0.0);
                prop_assert!((code - *in_file as i8).abs() <= 1);
            }
        }
    }

    #[test]
    fn halves_are_rounded_to_even_where_files_round_them_away_from_zero() {
        let mut values = [0.0; BLOCK];
        values[..4].copy_from_slice(&[127.0, 2.5, -2.5, 3.5]);
        assert_eq!(codes_of(&values).1[..4], [127, 2, -2, 4]);
        let mut file = [0; 34];
        quantize_row(Isa::SCALAR, WeightType::Q8_0, &values, &mut file);
        assert_eq!([3, 4, 5].map(|byte| file[byte] as i8), [3, -3, 4]);
    }

    #[test]
    fn a_short_block_has_zeros_behind_its_values() {
        let (scale, codes) = codes_of(&[-1.0, 0.5]);
        assert_eq!((scale, codes[0], codes[1]), (f16::from_f32(1.0 / 127.0), -127, 64));
        assert_eq!(codes[2..], [0; 30]);
    }
}
