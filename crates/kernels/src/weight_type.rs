//! The weight types that a matrix can have, and the sizes of their blocks.

use std::fmt;

use crate::activations::InputCodes;

/// How the weights of a tensor are stored: plain floats, or blocks of quantized integers with shared scales.
///
/// Layouts are those of the GGML tensor library (`ggml-common.h`); a row is a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the upper half of a single.
    Bf16,
    /// 32 weights: f16 scale, signed bytes.
    Q8_0,
    /// 32 weights: f16 scale, nibbles minus 8.
    Q4_0,
    /// 32 weights: f16 scale and minimum, nibbles.
    Q4_1,
    /// 32 weights: f16 scale, 5 bits minus 16.
    Q5_0,
    /// 32 weights: f16 scale and minimum, 5 bits.
    Q5_1,
    /// 32 weights: f16 scale, nibbles that say which of sixteen uneven numbers.
    Iq4Nl,
    /// 32 weights: a power of two as scale, floats of four bits (OCP Microscaling).
    Mxfp4,
    /// 64 weights: 4 sub-blocks of 16 with floats of eight bits as scales, floats of four bits as of `Mxfp4` (4.5 bits a weight; 5 in memory).
    Nvfp4,
    /// 128 weights: f16 scale, -1 or 1 (1.1 bits a weight; 1.5 in memory).
    Q1_0,
    /// 64 weights: f16 scale, 2 bits minus 1 (2.3 bits a weight; 2.5 in memory).
    Q2_0,
    /// 256 weights: 8 sub-blocks of 32 with 6-bit scales, nibbles as of `Iq4Nl`.
    Iq4Xs,
    /// 256 weights: 8 sub-blocks of 32 with 4-bit scales, each 4 weights a point of a grid (3.1 bits a weight; 4.3 in memory).
    Iq3Xxs,
    /// 256 weights: as `Iq3Xxs` with a grid of twice the points (3.4 bits a weight; 4.3 in memory).
    Iq3S,
    /// 256 weights: 8 sub-blocks of 32 with 4-bit scales, each 8 weights a point of a grid (2.1 bits a weight; 3.6 in memory).
    Iq2Xxs,
    /// 256 weights: 16 sub-blocks of 16 with 4-bit scales, a grid of twice the points (2.3 bits a weight; 3.6 in memory).
    Iq2Xs,
    /// 256 weights: as `Iq2Xs` with a grid of twice the points (2.6 bits a weight; 3.6 in memory).
    Iq2S,
    /// 256 weights: 8 sub-blocks of 32 with 3-bit scales and shifts, each 8 weights a point of a grid (1.6 bits a weight; 3.6 in memory).
    Iq1S,
    /// 256 weights: as `Iq1S` with 16 sub-blocks of 16 and shifts of each 8 weights (1.8 bits a weight; 3.6 in memory).
    Iq1M,
    /// 256 weights: f16 scale, -1, 0 or 1, five to a byte (1.7 bits a weight; 2.3 in memory).
    Tq1_0,
    /// 256 weights: f16 scale, -1, 0 or 1, four to a byte.
    Tq2_0,
    /// 256 weights: 16 sub-blocks of 16 with 4-bit scales and minima, 2 bits (2.6 bits a weight; 3.1 in memory).
    Q2K,
    /// 256 weights: 16 sub-blocks of 16 with 6-bit scales, 3 bits minus 4.
    Q3K,
    /// 256 weights: 8 sub-blocks of 32 with 6-bit scales and minima, nibbles.
    Q4K,
    /// 256 weights: as `Q4K` with 5 bits.
    Q5K,
    /// 256 weights: 16 sub-blocks of 16 with 8-bit scales, 6 bits minus 32.
    Q6K,
}

impl WeightType {
    /// Every weight type, in the order in which help texts and errors list them.
    pub const ALL: [Self; 28] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Iq4Nl,
        Self::Mxfp4,
        Self::Nvfp4,
        Self::Q1_0,
        Self::Q2_0,
        Self::Iq4Xs,
        Self::Iq3Xxs,
        Self::Iq3S,
        Self::Iq2Xxs,
        Self::Iq2Xs,
        Self::Iq2S,
        Self::Iq1S,
        Self::Iq1M,
        Self::Tq1_0,
        Self::Tq2_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Weights in one block: a row's length is a multiple of it.
    pub const fn block_weights(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Iq4Nl | Self::Mxfp4 => 32,
            Self::Nvfp4 | Self::Q2_0 => 64,
            Self::Q1_0 => 128,
            _ => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 | Self::Iq4Nl | Self::Q1_0 | Self::Q2_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Mxfp4 => 17,
            Self::Nvfp4 => 36,
            Self::Iq4Xs => 136,
            Self::Iq3Xxs => 98,
            Self::Iq2Xs => 74,
            Self::Iq2S => 82,
            Self::Iq1S => 50,
            Self::Iq1M => 56,
            Self::Tq1_0 => 54,
            Self::Iq2Xxs | Self::Tq2_0 => 66,
            Self::Q2K => 84,
            Self::Q3K | Self::Iq3S => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `columns` weights, or `None` where the row is not a whole number of blocks.
    pub const fn row_bytes(self, columns: usize) -> Option<usize> {
        if columns.is_multiple_of(self.block_weights()) {
            (columns / self.block_weights()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }

    /// Which quantized forms of its input a product with such weights needs.
    pub const fn codes(self) -> InputCodes {
        match self.block_weights() {
            1 => InputCodes::NONE,
            256 => InputCodes::SUPER_BLOCKS,
            _ => InputCodes::BLOCKS,
        }
    }

    /// The name that GGUF tools use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Iq4Nl => "IQ4_NL",
            Self::Mxfp4 => "MXFP4",
            Self::Nvfp4 => "NVFP4",
            Self::Q1_0 => "Q1_0",
            Self::Q2_0 => "Q2_0",
            Self::Iq4Xs => "IQ4_XS",
            Self::Iq3Xxs => "IQ3_XXS",
            Self::Iq3S => "IQ3_S",
            Self::Iq2Xxs => "IQ2_XXS",
            Self::Iq2Xs => "IQ2_XS",
            Self::Iq2S => "IQ2_S",
            Self::Iq1S => "IQ1_S",
            Self::Iq1M => "IQ1_M",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
