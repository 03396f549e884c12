//! What the bytes of IQ types mean that round several weights at once: to a point of a grid.
//!
//! A code is a digit of its point ([`grids`](crate::grids)) and, above it, a sign: that of the weight, or, for IQ1, of a shift of all numbers
//! of the point. Sub-scales are odd.

use crate::block::{Block, half_at};
use crate::grids::{IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
use crate::weight_type::WeightType;

/// Where the sign is in a code of IQ1 and IQ2: above the digits 0 to 2.
const SIGN_OF_3: u32 = 2;

/// Where the sign is in a code of IQ3: above the digits 0 to 7.
const SIGN_OF_8: u32 = 3;

/// Decodes a block of 256 weights and calls `emit` for each 32, in order.
pub(crate) fn decode(weight_type: WeightType, bytes: &[u8], mut emit: impl FnMut(Block)) {
    let d = if weight_type == WeightType::Iq1M { scattered_half(&bytes[48..]) } else { half_at(bytes, 0) };
    for j in 0..8 {
        let (codes, sub_scales) = match weight_type {
            WeightType::Iq2Xxs => iq2_xxs(&bytes[2 + 8 * j..][..8]),
            WeightType::Iq2Xs => iq2_xs(&bytes[2 + 8 * j..][..8], bytes[66 + j]),
            WeightType::Iq2S => {
                iq2_s(&bytes[2 + 4 * j..][..4], bytes[66 + j], &bytes[34 + 4 * j..][..4], bytes[74 + j])
            }
            WeightType::Iq3Xxs => iq3_xxs(&bytes[2 + 8 * j..][..8], word_at(bytes, 66 + 4 * j)),
            WeightType::Iq3S => {
                let scale = nibbles(bytes[106 + j / 2])[j % 2];
                iq3_s(&bytes[2 + 8 * j..][..8], bytes[66 + j], &bytes[74 + 4 * j..][..4], scale)
            }
            WeightType::Iq1S => iq1_s(&bytes[4 * j + 2..][..4], half_at(bytes, 34 + 2 * j)),
            WeightType::Iq1M => {
                let scales = half_at(bytes, 48 + 2 * (j / 2)) >> (6 * (j % 2));
                iq1_m(&bytes[4 * j..][..4], &bytes[32 + 2 * j..][..2], scales)
            }
            _ => unreachable!("no grid"),
        };
        let sub_scales = sub_scales.map(|scale| 2 * scale as i8 + 1);
        emit(Block { codes, d: [d; 2], d_min: 0, sub_scales, sub_minima: [0, 0] });
    }
}

/// The codes of 32 weights, and the scales of their halves.
type CodesAndScales = ([u8; 32], [u8; 2]);

/// 4 indices; 4 times 7 bits of signs and 4 bits of scale.
fn iq2_xxs(bytes: &[u8]) -> CodesAndScales {
    let last = word_at(bytes, 4);
    let point = |p: usize| (&IQ2_XXS[usize::from(bytes[p])], even_signs(last >> (7 * p)));
    (signed(point, SIGN_OF_3), [(last >> 28) as u8; 2])
}

/// 4 times 9 bits of index and 7 of signs.
fn iq2_xs(bytes: &[u8], scales: u8) -> CodesAndScales {
    let point = |p: usize| {
        let index = half_at(bytes, 2 * p);
        (&IQ2_XS[usize::from(index & 511)], even_signs(u32::from(index >> 9)))
    };
    (signed(point, SIGN_OF_3), nibbles(scales))
}

/// 4 indices, of 8 lower and 2 upper bits.
fn iq2_s(low: &[u8], high: u8, signs: &[u8], scales: u8) -> CodesAndScales {
    let point = |p: usize| (&IQ2_S[index(low[p], high >> (2 * p) & 3)], signs[p]);
    (signed(point, SIGN_OF_3), nibbles(scales))
}

/// 8 indices; 4 times 7 bits of signs and 4 bits of scale.
fn iq3_xxs(indices: &[u8], last: u32) -> CodesAndScales {
    let point = |p: usize| {
        let of_eight = even_signs(last >> (7 * (p / 2)));
        (&IQ3_XXS[usize::from(indices[p])], of_eight >> (4 * (p % 2)))
    };
    (signed(point, SIGN_OF_8), [(last >> 28) as u8; 2])
}

/// 8 indices, of 8 lower bits and an upper one.
fn iq3_s(low: &[u8], high: u8, signs: &[u8], scale: u8) -> CodesAndScales {
    let point = |p: usize| (&IQ3_S[index(low[p], high >> p & 1)], signs[p / 2] >> (4 * (p % 2)));
    (signed(point, SIGN_OF_8), [scale; 2])
}

/// 4 indices, of 8 lower and 3 upper bits; behind the upper bits 3 bits of scale and the sign of the shift.
fn iq1_s(low: &[u8], last: u16) -> CodesAndScales {
    let shift = if last >> 15 == 1 { 0xff } else { 0 };
    let point = |p: usize| (&IQ1_S[index(low[p], (last >> (3 * p) & 7) as u8)], shift);
    (signed(point, SIGN_OF_3), [(last >> 12 & 7) as u8; 2])
}

/// 4 indices, of 8 lower and 3 upper bits, each with the sign of its shift; two times 3 bits of scale.
fn iq1_m(low: &[u8], high: &[u8], scales: u16) -> CodesAndScales {
    let point = |p: usize| {
        let high = nibbles(high[p / 2])[p % 2];
        (&IQ1_S[index(low[p], high & 7)], if high >> 3 == 1 { 0xff } else { 0 })
    };
    (signed(point, SIGN_OF_3), [(scales & 7) as u8, (scales >> 3 & 7) as u8])
}

/// The codes of 32 weights, whose points and signs are those of `point`: with bit `i` the sign of weight `i`.
fn signed<'a, const N: usize>(point: impl Fn(usize) -> (&'a [u8; N], u8), sign_bit: u32) -> [u8; 32] {
    let mut codes = [0; 32];
    for (p, codes) in codes.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        let (digits, signs) = point(p);
        *codes = std::array::from_fn(|i| digits[i] | (signs >> i & 1) << sign_bit);
    }
    codes
}

/// Eight signs, an even number of them negative, of which seven are stored.
fn even_signs(stored: u32) -> u8 {
    let seven = stored as u8 & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// The half of IQ1_M: a nibble above each four scales of three bits.
fn scattered_half(scales: &[u8]) -> u16 {
    (0..4).map(|i| (half_at(scales, 2 * i) >> 12) << (4 * i)).sum()
}

fn index(low: u8, high: u8) -> usize {
    usize::from(high) << 8 | usize::from(low)
}

fn nibbles(byte: u8) -> [u8; 2] {
    [byte & 15, byte >> 4]
}

fn word_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(half_at(bytes, offset)) | u32::from(half_at(bytes, offset + 2)) << 16
}
