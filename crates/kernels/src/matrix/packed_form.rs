//! How the weights of a matrix lie packed, told to those who multiply with them elsewhere: on a GPU.

use super::quantized;
use crate::weight_type::WeightType;

/// How sixteen rows of a matrix lie packed, unit of columns by unit. An element is summed unit by unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PackedForm {
    /// Floats: of each column the sixteen rows' side by side. A unit is 32 columns, whose products are summed before the sum is added to
    /// the element.
    Floats,
    /// Integer codes with scales to every 32 columns, a unit.
    Blocks {
        /// How codes lie.
        codes: CodeForm,
        /// Scales to a unit: one, or one to each half.
        scales: usize,
        /// Whether minima stand behind the scales.
        minimum: bool,
        /// Whether scales are bfloat16s, not halves.
        powers_of_two: bool,
    },
    /// Integer codes with integer scales; a unit is 256 columns with a half as the scale of those.
    SuperBlocks {
        /// How the codes of each 32 columns lie.
        codes: CodeForm,
        /// Integer scales to 32 columns: one, or one to each half.
        scales: usize,
        /// Whether there is a minimum to each integer scale.
        minimum: bool,
    },
}

/// How the integer codes of sixteen rows of 32 columns lie: in vectors of four columns, see `quantized/codes.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeForm {
    /// Bits of a code that lie together: 1, 2 or 4; or 8, which are signed bytes plus 128.
    pub bits: u32,
    /// Further bits, in planes behind those.
    pub plane_bits: u32,
    /// What is subtracted from a code.
    pub offset: u32,
    /// The numbers that codes stand for, where these are uneven.
    pub numbers: Option<&'static [i8; 16]>,
    /// What a super-block's half is multiplied with to become a scale.
    pub unit: f32,
}

impl PackedForm {
    /// Columns of a unit.
    pub fn unit_columns(&self) -> usize {
        if let Self::SuperBlocks { .. } = self { 256 } else { 32 }
    }
}

impl WeightType {
    /// How matrices of such weights lie packed.
    pub fn packed_form(self) -> PackedForm {
        if self.is_quantized() { quantized::packed_form(self) } else { PackedForm::Floats }
    }
}
