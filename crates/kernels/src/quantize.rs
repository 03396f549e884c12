//! Floats to blocks of quantized weights, in the layouts that [`dequantize_row`](crate::block::dequantize_row) reads.
//!
//! `Q8_0` and `Q4_0` are rounded as llama.cpp's reference does (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`), to the bit.
//! `Q4_K` fits scale and minimum of each 32 weights by least squares, over some twenty ways to round them.

use half::{bf16, f16};

use crate::simd::simd_fn;
use crate::weight_type::WeightType;

/// Weights that share a scale.
const BLOCK: usize = 32;
/// Blocks of a block of `Q4_K`.
const BLOCKS: usize = 8;
/// The greatest code of four bits.
const MAX_CODE: f32 = 15.0;
/// The greatest scale of six bits.
const MAX_SCALE: f32 = 63.0;

impl WeightType {
    /// The types that [`quantize_row`] writes.
    pub const WRITABLE: [Self; 6] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4K];
}

simd_fn! {
    /// Writes a row of floats as `weight_type`. Compiled for any instruction set, the bytes are the same.
    ///
    /// # Panics
    /// If the type is none of [`WeightType::WRITABLE`], or `out` has not the size of such a row.
    pub fn quantize_row(_simd, weight_type: WeightType, row: &[f32], out: &mut [u8]) {
        assert_eq!(Some(out.len()), weight_type.row_bytes(row.len()), "a row of whole blocks");
        match weight_type {
            WeightType::F32 => write(row, out, f32::to_le_bytes),
            WeightType::F16 => write(row, out, |value| f16::from_f32(value).to_le_bytes()),
            WeightType::Bf16 => write(row, out, |value| bf16::from_f32(value).to_le_bytes()),
            WeightType::Q8_0 => {
                for (x, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
                    *out = q8_0(x);
                }
            }
            WeightType::Q4_0 => {
                for (x, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
                    *out = q4_0(x);
                }
            }
            WeightType::Q4K => {
                let blocks = row.as_chunks::<BLOCK>().0.as_chunks::<BLOCKS>().0;
                for (x, out) in blocks.iter().zip(out.as_chunks_mut().0) {
                    *out = q4_k(x);
                }
            }
            other => panic!("{other} is not written"),
        }
    }
}

#[inline(always)]
fn write<const N: usize>(row: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (value, out) in row.iter().zip(out.as_chunks_mut::<N>().0) {
        *out = bytes(*value);
    }
}

#[inline(always)]
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

#[inline(always)]
fn q8_0(x: &[f32; BLOCK]) -> [u8; 34] {
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let mut out = [0; 34];
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (out, x) in out[2..].iter_mut().zip(x) {
        *out = (x * inverse(scale)).round() as i8 as u8;
    }
    out
}

#[inline(always)]
fn q4_0(x: &[f32; BLOCK]) -> [u8; 18] {
    // The value of the greatest magnitude becomes the code 0, whose magnitude is one greater than that of 15.
    let largest =
        x.iter().copied().fold(0.0f32, |largest, x| if x.abs() > largest.abs() { x } else { largest });
    let scale = largest / -8.0;
    let mut out = [0; 18];
    out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    let code = |x: f32| (x * inverse(scale) + 8.5).clamp(0.0, MAX_CODE) as u8;
    for i in 0..16 {
        out[2 + i] = code(x[i]) | code(x[16 + i]) << 4;
    }
    out
}

/// A sum over a block, in eight lanes: vectors can do that.
#[inline(always)]
fn sum(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    for first in (0..BLOCK).step_by(8) {
        for lane in 0..8 {
            lanes[lane] += term(first + lane);
        }
    }
    lanes.iter().sum()
}

/// `x = scale * code - minimum`
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    scale: f32,
    minimum: f32,
}

/// The scale and the minimum, not negative, that fit 32 weights best; large weights count more.
#[inline(always)]
fn fit(x: &[f32; BLOCK]) -> Fit {
    let (low, high) = x.iter().fold((0.0f32, 0.0f32), |(low, high), &x| (low.min(x), high.max(x)));
    if low == high {
        return Fit { scale: 0.0, minimum: -low };
    }
    let mean_square = sum(|i| x[i] * x[i]) / BLOCK as f32;
    let weights = x.map(|x| mean_square.sqrt() + x.abs());
    let error = |fit: Fit| {
        let codes_per_unit = inverse(fit.scale);
        sum(|i| {
            let code = ((x[i] + fit.minimum) * codes_per_unit).round_ties_even().clamp(0.0, MAX_CODE);
            let off = fit.scale * code - fit.minimum - x[i];
            weights[i] * (off * off)
        })
    };
    let usual = Fit { scale: (high - low) / MAX_CODE, minimum: -low };
    let mut best = (error(usual), usual);
    for step in 0..=20 {
        let codes_per_unit = (MAX_CODE - 1.0 + 0.1 * step as f32) / (high - low);
        let codes = x.map(|x| ((x - low) * codes_per_unit).round_ties_even().clamp(0.0, MAX_CODE));
        let candidate = least_squares(x, &codes, &weights);
        let found = error(candidate);
        if candidate.scale > 0.0 && found < best.0 {
            best = (found, candidate);
        }
    }
    best.1
}

/// The fit of given codes.
#[inline(always)]
fn least_squares(x: &[f32; BLOCK], codes: &[f32; BLOCK], weights: &[f32; BLOCK]) -> Fit {
    let (w, q) = (sum(|i| weights[i]), sum(|i| weights[i] * codes[i]));
    let qq = sum(|i| weights[i] * codes[i] * codes[i]);
    let (wx, qx) = (sum(|i| weights[i] * x[i]), sum(|i| weights[i] * codes[i] * x[i]));
    let determinant = w * qq - q * q;
    let (scale, minimum) = ((w * qx - q * wx) / determinant, (q * qx - qq * wx) / determinant);
    if determinant > 0.0 && minimum >= 0.0 {
        Fit { scale, minimum }
    } else {
        Fit { scale: qx * inverse(qq), minimum: 0.0 }
    }
}

#[inline(always)]
fn q4_k(x: &[[f32; BLOCK]; BLOCKS]) -> [u8; 144] {
    let fits = x.each_ref().map(fit);
    let scale = fits.iter().fold(0.0f32, |largest, fit| largest.max(fit.scale)) / MAX_SCALE;
    let minimum = fits.iter().fold(0.0f32, |largest, fit| largest.max(fit.minimum)) / MAX_SCALE;
    let (d, d_min) = (f16::from_f32(scale), f16::from_f32(minimum));
    let mut out = [0; 144];
    out[..2].copy_from_slice(&d.to_le_bytes());
    out[2..4].copy_from_slice(&d_min.to_le_bytes());
    for (block, (x, fit)) in x.iter().zip(fits).enumerate() {
        let sub_scale = (fit.scale * inverse(scale)).round().min(MAX_SCALE);
        let sub_minimum = (fit.minimum * inverse(minimum)).round().min(MAX_SCALE);
        pack_scale(&mut out[4..16], block, sub_scale as u8, sub_minimum as u8);
        let (scale, minimum) = (d.to_f32() * sub_scale, d_min.to_f32() * sub_minimum);
        let nibbles = &mut out[16 + BLOCK * (block / 2)..][..BLOCK];
        for (out, x) in nibbles.iter_mut().zip(x) {
            let code = ((x + minimum) * inverse(scale)).round_ties_even().clamp(0.0, MAX_CODE) as u8;
            *out |= code << (4 * (block % 2));
        }
    }
    out
}

/// Writes the 6-bit scale and minimum of block `j`.
#[inline(always)]
fn pack_scale(packed: &mut [u8], j: usize, scale: u8, minimum: u8) {
    if j < 4 {
        packed[j] |= scale;
        packed[j + 4] |= minimum;
    } else {
        packed[j + 4] |= (scale & 15) | (minimum & 15) << 4;
        packed[j - 4] |= (scale >> 4) << 6;
        packed[j] |= (minimum >> 4) << 6;
    }
}
