//! Weights of eight bits with scales beside them, as FP8 checkpoints have them: floats of four bits of exponent and three of mantissa
//! (E4M3), and a scale for each block of rows and columns, in a tensor of its own.
//!
//! Sources: Micikevicius et al., "FP8 Formats for Deep Learning" (2022); DeepSeek-AI, "DeepSeek-V3 Technical Report" (2024), section 3.3.

use half::bf16;
use lookahead_kernels::WeightType;

use crate::stored_tensor::StoredTensor;

/// What the name of a weight's scales ends with, behind the weight's.
pub(super) const SCALES: [&str; 2] = ["_scale_inv", "_scale"];

/// Weights and their scales.
#[derive(Clone, Debug)]
pub(crate) struct Float8<'a> {
    codes: &'a [u8],
    columns: usize,
    /// Row by row of blocks.
    scales: Vec<f32>,
    /// Rows and columns of a block.
    block: [usize; 2],
}

impl<'a> Float8<'a> {
    /// Weights of `[rows, columns]` in blocks of `block`, with these scales; `None` if there are not as many as blocks. One scale may be
    /// that of all weights, and one for each row that of the row.
    pub(super) fn new(
        codes: &'a [u8],
        [rows, columns]: [usize; 2],
        scales: &StoredTensor<'_>,
        block: [usize; 2],
    ) -> Option<Self> {
        let all = [rows.max(1), columns.max(1)];
        let blocks = |block: [usize; 2]| [rows.div_ceil(block[0]), columns.div_ceil(block[1])];
        let block = match [scales.rows, scales.columns] {
            [1, 1] => all,
            [count, 1] if count == rows && blocks(block) != [count, 1] => [1, all[1]],
            found => Some(block).filter(|&block| blocks(block) == found)?,
        };
        Some(Self { codes, columns, scales: scales.to_floats(), block })
    }

    /// The weights in [`Float8::WEIGHT_TYPE`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let values = std::array::from_fn::<f32, 256, _>(|code| value(code as u8));
        let blocks = self.columns.div_ceil(self.block[1]);
        let mut bytes = Vec::with_capacity(self.codes.len() * 2);
        for (row, codes) in self.codes.chunks_exact(self.columns.max(1)).enumerate() {
            let scales = &self.scales[row / self.block[0] * blocks..][..blocks];
            for (codes, scale) in codes.chunks(self.block[1]).zip(scales) {
                bytes.extend(
                    codes
                        .iter()
                        .flat_map(|&code| bf16::from_f32(values[usize::from(code)] * scale).to_le_bytes()),
                );
            }
        }
        bytes
    }

    /// What the weights are rounded to: their own three bits of mantissa, times a scale, are in it to one part in 512.
    pub(crate) const WEIGHT_TYPE: WeightType = WeightType::Bf16;
}

/// The number that `code` stands for. There is no infinity; all bits but the sign's set are no number.
fn value(code: u8) -> f32 {
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(code >> 3 & 0xf), f32::from(code & 7));
    sign * match (exponent, code & 0x7f) {
        (_, 0x7f) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2.0f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2.0f32.powi(exponent - 7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored_tensor::StoredBytes;

    /// Weights of `shape` with scales of `scales`, in blocks of two rows and three columns, as floats.
    fn weights(codes: &[u8], shape: [usize; 2], scales: [usize; 2]) -> Option<Vec<f32>> {
        let numbers: Vec<u8> = (1..=scales[0] * scales[1]).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let stored = StoredTensor {
            name: "scales".to_owned(),
            weight_type: WeightType::F32,
            rows: scales[0],
            columns: scales[1],
            bytes: StoredBytes::Mapped(&numbers),
        };
        let bytes = Float8::new(codes, shape, &stored, [2, 3])?.to_bytes();
        Some(bytes.chunks_exact(2).map(|bytes| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()).collect())
    }

    #[test]
    fn codes_stand_for_the_numbers_of_the_format() {
        // Of the paper's table 1: the largest, the smallest that is normal, the largest and the smallest below.
        let expected = [
            (0x7e, 448.0),
            (0x08, 2.0f32.powi(-6)),
            (0x07, 0.875 * 2.0f32.powi(-6)),
            (0x01, 2.0f32.powi(-9)),
        ];
        for (code, number) in expected {
            assert_eq!((value(code), value(code | 0x80)), (number, -number));
        }
        assert_eq!((value(0x38), value(0x00), value(0x80).to_bits()), (1.0, 0.0, (-0.0f32).to_bits()));
        assert!(value(0x7f).is_nan() && value(0xff).is_nan());
    }

    #[test]
    fn each_block_has_its_scale() {
        let one = [0x38; 15];
        let of_blocks = [[1., 1., 1., 2., 2.], [1., 1., 1., 2., 2.], [3., 3., 3., 4., 4.]];
        assert_eq!(weights(&one, [3, 5], [2, 2]).unwrap(), of_blocks.concat());
        assert_eq!(weights(&one, [3, 5], [1, 1]).unwrap(), [1.0; 15]);
        assert_eq!(weights(&one, [3, 5], [3, 1]).unwrap(), [[1.0; 5], [2.0; 5], [3.0; 5]].concat());
        assert_eq!(weights(&one, [5, 3], [3, 1]).unwrap()[12..], [3.0; 3], "two rows a block");
        for scales in [[0, 0], [2, 1], [1, 2], [2, 3], [5, 3]] {
            assert_eq!(weights(&one, [3, 5], scales), None, "{scales:?}");
        }
        assert_eq!(weights(&[], [0, 0], [0, 0]), Some(Vec::new()));
    }
}
