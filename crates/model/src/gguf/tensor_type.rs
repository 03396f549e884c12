//! GGML's tensor type numbers: which are weight types of ours, and what the others are called.

use lookahead_kernels::WeightType;

/// The number that GGUF files use for a weight type (`enum ggml_type`).
pub(super) const fn number(weight_type: WeightType) -> u32 {
    match weight_type {
        WeightType::F32 => 0,
        WeightType::F16 => 1,
        WeightType::Q4_0 => 2,
        WeightType::Q4_1 => 3,
        WeightType::Q5_0 => 6,
        WeightType::Q5_1 => 7,
        WeightType::Q8_0 => 8,
        WeightType::Q2K => 10,
        WeightType::Q3K => 11,
        WeightType::Q4K => 12,
        WeightType::Q5K => 13,
        WeightType::Q6K => 14,
        WeightType::Iq2Xxs => 16,
        WeightType::Iq2Xs => 17,
        WeightType::Iq3Xxs => 18,
        WeightType::Iq1S => 19,
        WeightType::Iq4Nl => 20,
        WeightType::Iq3S => 21,
        WeightType::Iq2S => 22,
        WeightType::Iq4Xs => 23,
        WeightType::Iq1M => 29,
        WeightType::Bf16 => 30,
        WeightType::Tq1_0 => 34,
        WeightType::Tq2_0 => 35,
        WeightType::Mxfp4 => 39,
        WeightType::Nvfp4 => 40,
        WeightType::Q1_0 => 41,
        WeightType::Q2_0 => 42,
    }
}

/// The weight type with this number, if there are kernels for it.
pub(super) fn from_number(wanted: u32) -> Option<WeightType> {
    WeightType::ALL.into_iter().find(|&weight_type| number(weight_type) == wanted)
}

/// A type number for an error: the name that GGML gives it, where it has one, and the number.
pub(super) fn describe(number: u32) -> String {
    // Types that are not weight types of ours; gaps in the numbers are types that GGML has withdrawn.
    let name = match number {
        9 => "Q8_1",
        15 => "Q8_K",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        _ => {
            return from_number(number).map_or_else(|| format!("number {number}"), |known| known.to_string());
        }
    };
    format!("{name} (number {number})")
}

/// The names of the supported types, for an error.
pub(super) fn supported() -> String {
    WeightType::ALL.map(WeightType::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_type_has_its_own_number() {
        for weight_type in WeightType::ALL {
            assert_eq!(from_number(number(weight_type)), Some(weight_type));
        }
    }
}
