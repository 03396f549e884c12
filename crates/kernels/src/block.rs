//! What the bytes of quantized weights mean: every weight type's blocks, decoded to one common form of 32 weights.
//!
//! The layouts are those of the GGML tensor library (`ggml-common.h` and the `dequantize_row_*` functions of
//! `ggml-quants.c` in llama.cpp). Weight `i` of a block is
//!
//! ```text
//! d[i / 16] * sub_scale[i / 16] * (code[i] - offset)  +  d_min * sub_minimum[i / 16]
//! ```
//!
//! Codes of types with uneven numbers say which of sixteen ([`WeightType::numbers`]) stands in place of `code[i] - offset`; `d` is in
//! units of [`WeightType::unit`].

use half::{bf16, f16};

use crate::grid_blocks;
use crate::weight_type::WeightType;

/// 32 consecutive weights of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Integer codes: unsigned, or the bits of signed bytes for `Q8_0`.
    pub(crate) codes: [u8; 32],
    /// The scales of the two halves, as bits of a half; of a bfloat16 where they are powers of two. They differ for `NVFP4` alone.
    pub(crate) d: [u16; 2],
    /// The scale of the minimum, as bits of a half; 0 where the type has none.
    pub(crate) d_min: u16,
    /// Integer scales of the two halves; 1 where the type has none.
    pub(crate) sub_scales: [i8; 2],
    /// Integer minima of the two halves; 1 where the type has only `d_min`.
    pub(crate) sub_minima: [u8; 2],
}

/// The numbers of IQ4_NL and IQ4_XS: closer to each other near zero (`kvalues_iq4nl` in `ggml-common.h`).
const IQ4_NUMBERS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Floats of one sign, two exponent and one mantissa bit, doubled (OCP Microscaling Formats Specification, 2023: E2M1).
const MXFP4_NUMBERS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Magnitudes of IQ2, and the same negative.
const IQ2_NUMBERS: [i8; 16] = [8, 25, 43, 0, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// -1, 0 and 1 in eighths, shifted up by an eighth, and down.
const IQ1_NUMBERS: [i8; 16] = [-7, 1, 9, 0, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Magnitudes of IQ3_XXS, and the same negative.
const IQ3_XXS_NUMBERS: [i8; 16] = [4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62];

/// Magnitudes of IQ3_S, and the same negative.
const IQ3_S_NUMBERS: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];

/// What a bit of Q1_0 stands for.
const BINARY_NUMBERS: [i8; 16] = [-1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A digit to base 3, or a pair of bits, less one. Of TQ2_0 no quantizer writes the fourth.
const TERNARY_NUMBERS: [i8; 16] = [-1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl WeightType {
    /// Whether weights are integer codes, multiplied with activations quantized to integers.
    pub const fn is_quantized(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// What is subtracted from an unsigned code.
    pub(crate) const fn offset(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q6K => 32,
            Self::Q3K => 4,
            _ => 0,
        }
    }

    /// The numbers that codes stand for, where these are uneven. Those of MXFP4 and NVFP4 are doubled, as 0.5 is among
    /// them.
    pub(crate) const fn numbers(self) -> Option<&'static [i8; 16]> {
        match self {
            Self::Iq4Nl | Self::Iq4Xs => Some(&IQ4_NUMBERS),
            Self::Mxfp4 | Self::Nvfp4 => Some(&MXFP4_NUMBERS),
            Self::Q1_0 => Some(&BINARY_NUMBERS),
            Self::Iq3Xxs => Some(&IQ3_XXS_NUMBERS),
            Self::Iq3S => Some(&IQ3_S_NUMBERS),
            Self::Iq2Xxs | Self::Iq2Xs | Self::Iq2S => Some(&IQ2_NUMBERS),
            Self::Iq1S | Self::Iq1M => Some(&IQ1_NUMBERS),
            Self::Tq1_0 | Self::Tq2_0 | Self::Q2_0 => Some(&TERNARY_NUMBERS),
            _ => None,
        }
    }

    /// What a half is multiplied with to become a scale: a power of two.
    pub(crate) const fn unit(self) -> f32 {
        match self {
            Self::Iq3Xxs => 0.25,
            Self::Iq2Xxs | Self::Iq2Xs | Self::Iq2S | Self::Iq1S | Self::Iq1M => 0.125,
            _ => 1.0,
        }
    }

    /// Scales to a block of 32 weights: for each half, if two.
    #[doc(hidden)]
    pub const fn scales_to_a_block(self) -> usize {
        if matches!(self, Self::Nvfp4) { 2 } else { 1 }
    }

    /// Whether a minimum is added to the scaled codes, and its sign: `Q4_1` adds it, K-quants subtract it.
    #[doc(hidden)]
    pub const fn minimum_sign(self) -> f32 {
        match self {
            Self::Q4_1 | Self::Q5_1 => 1.0,
            Self::Q2K | Self::Q4K | Self::Q5K => -1.0,
            _ => 0.0,
        }
    }
}

/// Half of the power of two whose exponent is `exponent - 127`, as bits of a bfloat16: what doubled numbers are multiplied with.
fn half_of_power(exponent: u8) -> u16 {
    match exponent {
        // Below the smallest exponent a bit of the mantissa stands for the power.
        0 | 1 => 0x20 << exponent,
        _ => u16::from(exponent - 1) << 7,
    }
}

/// Half of a float without sign, of four exponent and three mantissa bits (E4M3, as MXFP4's numbers from OCP), as bits of a half: what
/// doubled numbers are multiplied with. The last stands for no number, and comes to zero.
fn half_of_e4m3(bits: u8) -> u16 {
    let (exponent, mantissa) = (bits >> 3 & 15, bits & 7);
    match (exponent, bits) {
        (_, 0x7f) => 0,
        // Below the smallest exponent the mantissa counts 2^-9.
        (0, _) => f16::from_f32(f32::from(mantissa) / 1024.0).to_bits(),
        _ => u16::from(exponent + 7) << 10 | u16::from(mantissa) << 7,
    }
}

/// Two bytes as one number: the bits of a half, mostly.
pub(crate) fn half_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

/// The 6-bit scale and minimum of sub-block `j` of a K-quant's 12 packed bytes.
fn packed_scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        let min = (packed[j + 4] >> 4) | (packed[j] >> 6) << 4;
        (scale, min)
    }
}

/// Digit `i` to base 3 of the 256 of TQ1_0. A byte is a fraction of 256 that has five digits, or four, behind the point; the first digits of all
/// bytes of a part come first, then the second ones.
fn ternary_digit(bytes: &[u8], i: usize) -> u8 {
    let (first, width, i) = match i {
        0..160 => (0, 32, i),
        160..240 => (32, 16, i - 160),
        _ => (48, 4, i - 240),
    };
    let fraction = bytes[first + i % width].wrapping_mul(3u8.pow((i / width) as u32));
    ((u16::from(fraction) * 3) >> 8) as u8
}

/// Decodes one block of the file (32 to 256 weights) and calls `emit` for each 32 weights, in order.
///
/// # Panics
/// If `bytes` is not one block of a quantized type.
pub fn decode_block(weight_type: WeightType, bytes: &[u8], mut emit: impl FnMut(Block)) {
    assert!(weight_type.is_quantized() && bytes.len() == weight_type.block_bytes(), "one quantized block");
    let simple = |codes, d_min| Block {
        codes,
        d: [half_at(bytes, 0); 2],
        d_min,
        sub_scales: [1, 1],
        sub_minima: [1, 1],
    };
    let nibble = |nibbles: &[u8], i: usize| nibbles[i % 16] >> (4 * (i / 16)) & 15;
    let pair = |pairs: &[u8], block: usize, i: usize| pairs[32 * (block / 4) + i] >> (2 * (block % 4)) & 3;
    match weight_type {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("not quantized"),
        WeightType::Q8_0 => emit(simple(std::array::from_fn(|i| bytes[2 + i]), 0)),
        WeightType::Q4_0 => emit(simple(std::array::from_fn(|i| nibble(&bytes[2..], i)), 0)),
        WeightType::Q4_1 => emit(simple(std::array::from_fn(|i| nibble(&bytes[4..], i)), half_at(bytes, 2))),
        WeightType::Q5_0 => {
            let fifth = |i: usize| bytes[2 + i / 8] >> (i % 8) & 1;
            emit(simple(std::array::from_fn(|i| nibble(&bytes[6..], i) | fifth(i) << 4), 0));
        }
        WeightType::Q5_1 => {
            let fifth = |i: usize| bytes[4 + i / 8] >> (i % 8) & 1;
            let codes = std::array::from_fn(|i| nibble(&bytes[8..], i) | fifth(i) << 4);
            emit(simple(codes, half_at(bytes, 2)));
        }
        WeightType::Iq4Nl => emit(simple(std::array::from_fn(|i| nibble(&bytes[2..], i)), 0)),
        WeightType::Mxfp4 => {
            let codes = std::array::from_fn(|i| nibble(&bytes[1..], i));
            emit(Block { d: [half_of_power(bytes[0]); 2], ..simple(codes, 0) });
        }
        WeightType::Nvfp4 => {
            for j in 0..2 {
                // Each half of a block has nibbles of its own.
                let codes = std::array::from_fn(|i| {
                    bytes[4 + 16 * j + 8 * (i / 16) + i % 8] >> (4 * (i / 8 % 2)) & 15
                });
                let d = [half_of_e4m3(bytes[2 * j]), half_of_e4m3(bytes[2 * j + 1])];
                emit(Block { d, ..simple(codes, 0) });
            }
        }
        WeightType::Q1_0 => {
            for bits in bytes[2..].chunks_exact(4) {
                emit(simple(std::array::from_fn(|i| bits[i / 8] >> (i % 8) & 1), 0));
            }
        }
        WeightType::Q2_0 => {
            for pairs in bytes[2..].chunks_exact(8) {
                emit(simple(std::array::from_fn(|i| pairs[i / 4] >> (2 * (i % 4)) & 3), 0));
            }
        }
        WeightType::Iq4Xs => {
            let (high_bits, low_bits, nibbles) = (half_at(bytes, 2), &bytes[4..8], &bytes[8..]);
            for j in 0..8 {
                let low = low_bits[j / 2] >> (4 * (j % 2)) & 15;
                let sub_scale = (low | ((high_bits >> (2 * j) & 3) as u8) << 4) as i8 - 32;
                let codes = std::array::from_fn(|i| nibble(&nibbles[16 * j..], i));
                emit(Block { sub_scales: [sub_scale; 2], ..simple(codes, 0) });
            }
        }
        WeightType::Iq3Xxs
        | WeightType::Iq3S
        | WeightType::Iq2Xxs
        | WeightType::Iq2Xs
        | WeightType::Iq2S
        | WeightType::Iq1S
        | WeightType::Iq1M => grid_blocks::decode(weight_type, bytes, emit),
        WeightType::Tq1_0 | WeightType::Tq2_0 => {
            for j in 0..8 {
                let (codes, d) = if weight_type == WeightType::Tq1_0 {
                    (std::array::from_fn(|i| ternary_digit(bytes, 32 * j + i)), half_at(bytes, 52))
                } else {
                    (std::array::from_fn(|i| pair(bytes, j, i)), half_at(bytes, 64))
                };
                emit(Block { d: [d; 2], ..simple(codes, 0) });
            }
        }
        WeightType::Q2K => {
            let (scales, pairs) = (&bytes[..16], &bytes[16..80]);
            for j in 0..8 {
                let of_block = [scales[2 * j], scales[2 * j + 1]];
                emit(Block {
                    codes: std::array::from_fn(|i| pair(pairs, j, i)),
                    d: [half_at(bytes, 80); 2],
                    d_min: half_at(bytes, 82),
                    sub_scales: of_block.map(|byte| (byte & 15) as i8),
                    sub_minima: of_block.map(|byte| byte >> 4),
                });
            }
        }
        WeightType::Q3K => {
            let (thirds, pairs, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
            let sub_scale = |j: usize| {
                let low = scales[j % 8] >> (4 * (j / 8)) & 15;
                (low | (scales[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) as i8 - 32
            };
            for j in 0..8 {
                let codes = std::array::from_fn(|i| pair(pairs, j, i) | (thirds[i] >> j & 1) << 2);
                let sub_scales = [sub_scale(2 * j), sub_scale(2 * j + 1)];
                emit(Block { codes, d: [half_at(bytes, 108); 2], d_min: 0, sub_scales, sub_minima: [0, 0] });
            }
        }
        WeightType::Q4K | WeightType::Q5K => {
            let is_wide = weight_type == WeightType::Q5K;
            let (fifths, nibbles) = bytes[16..].split_at(if is_wide { 32 } else { 0 });
            for j in 0..8 {
                let (scale, min) = packed_scale_min(&bytes[4..16], j);
                let codes = std::array::from_fn(|i| {
                    let low = nibbles[32 * (j / 2) + i] >> (4 * (j % 2)) & 15;
                    if is_wide { low | (fifths[i] >> j & 1) << 4 } else { low }
                });
                emit(Block {
                    codes,
                    d: [half_at(bytes, 0); 2],
                    d_min: half_at(bytes, 2),
                    sub_scales: [scale as i8; 2],
                    sub_minima: [min; 2],
                });
            }
        }
        WeightType::Q6K => {
            let (nibbles, pairs, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
            for j in 0..8 {
                // Each half of 128 weights has 64 bytes of nibbles and 32 bytes of upper bit pairs.
                let (half, quarter) = (j / 4, j % 4);
                let codes = std::array::from_fn(|i| {
                    let low = nibbles[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
                    low | (pairs[32 * half + i] >> (2 * quarter) & 3) << 4
                });
                emit(Block {
                    codes,
                    d: [half_at(bytes, 208); 2],
                    d_min: 0,
                    sub_scales: [scales[2 * j] as i8, scales[2 * j + 1] as i8],
                    sub_minima: [0, 0],
                });
            }
        }
    }
}

impl Block {
    /// Of weights that are all zero.
    pub(crate) const ZERO: Self =
        Self { codes: [0; 32], d: [0; 2], d_min: 0, sub_scales: [1, 1], sub_minima: [1, 1] };

    /// The float scale of integer sums of weight `i` and others.
    pub fn scale(&self, weight_type: WeightType, i: usize) -> f32 {
        let d = self.d[i / 16];
        match weight_type {
            WeightType::Mxfp4 => bf16::from_bits(d).to_f32(),
            _ => f16::from_bits(d).to_f32() * weight_type.unit(),
        }
    }

    /// The float scale of the minimum, with the sign with which it is added.
    pub fn minimum_scale(&self, weight_type: WeightType) -> f32 {
        weight_type.minimum_sign() * f16::from_bits(self.d_min).to_f32()
    }

    /// The integer factor of the minimum of weight `i`.
    pub fn integer_minimum(&self, i: usize) -> i32 {
        i32::from(self.sub_minima[i / 16])
    }

    /// The integer factor of weight `i`: its code without the offset, times its half's sub-scale.
    pub fn integer(&self, weight_type: WeightType, i: usize) -> i32 {
        let code = match (weight_type.numbers(), weight_type) {
            (Some(numbers), _) => i32::from(numbers[usize::from(self.codes[i] & 15)]),
            (None, WeightType::Q8_0) => i32::from(self.codes[i] as i8),
            (None, _) => i32::from(self.codes[i]) - weight_type.offset(),
        };
        i32::from(self.sub_scales[i / 16]) * code
    }

    /// The weights as floats.
    pub(crate) fn dequantize(&self, weight_type: WeightType) -> [f32; 32] {
        // All of it is exact but the last sum: 11 significant bits times at most 13.
        let minimum_scale = self.minimum_scale(weight_type);
        std::array::from_fn(|i| {
            let scaled = self.scale(weight_type, i) * self.integer(weight_type, i) as f32;
            let minimum = minimum_scale * self.integer_minimum(i) as f32;
            if weight_type.minimum_sign() == 0.0 { scaled } else { scaled + minimum }
        })
    }
}

/// Dequantizes (or widens) a row of a weight tensor as it lies in the file.
///
/// # Panics
/// If `bytes` is not the row of `out.len()` weights.
pub fn dequantize_row(weight_type: WeightType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(Some(bytes.len()), weight_type.row_bytes(out.len()), "a row of whole blocks");
    match weight_type {
        WeightType::F32 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        WeightType::F16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        WeightType::Bf16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = half::bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        _ => {
            let mut blocks = out.as_chunks_mut::<32>().0.iter_mut();
            for bytes in bytes.chunks_exact(weight_type.block_bytes()) {
                decode_block(weight_type, bytes, |block| {
                    *blocks.next().expect("as many blocks as `row_bytes` says") =
                        block.dequantize(weight_type);
                });
            }
        }
    }
}
