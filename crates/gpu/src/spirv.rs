//! SPIR-V whose float arithmetic is what it says: no operation is merged with another, rounded otherwise, or flushed to zero.
//!
//! The shader compiler promises none of that, and says nothing of it to the driver. So its output is completed here: each float
//! operation gets `NoContraction`, and the entry point the modes of `SPV_KHR_float_controls` that the device offers.
//!
//! Source: Khronos Group, "SPIR-V Specification" (2023), sections 2.4 (order of a module), 3.6 and 3.20; "SPV_KHR_float_controls".

/// Words before the first instruction.
const HEADER: usize = 5;

// Instructions.
const OP_EXTENSION: u32 = 10;
const OP_MEMORY_MODEL: u32 = 14;
const OP_ENTRY_POINT: u32 = 15;
const OP_EXECUTION_MODE: u32 = 16;
const OP_CAPABILITY: u32 = 17;
const OP_DECORATE: u32 = 71;
/// `OpFNegate`, `OpFAdd`, `OpFSub`, `OpFMul`, `OpFDiv`.
const FLOAT_OPERATIONS: [u32; 5] = [127, 129, 131, 133, 136];
/// All that stands before types: `OpSourceContinued` to `OpString`, `OpExtInstImport`, modes, decorations, `OpModuleProcessed`.
const BEFORE_TYPES: [u32; 17] = [
    2,
    3,
    4,
    5,
    6,
    7,
    OP_EXTENSION,
    11,
    OP_MEMORY_MODEL,
    OP_ENTRY_POINT,
    OP_EXECUTION_MODE,
    OP_CAPABILITY,
    OP_DECORATE,
    72,
    330,
    331,
    332,
];

const NO_CONTRACTION: u32 = 42;
const FLOAT_CONTROLS: &str = "SPV_KHR_float_controls";

/// A mode of float arithmetic, of which a device says for each width whether it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatMode {
    /// Values below the normal ones are kept.
    DenormPreserve,
    /// Zeros have signs, and there are infinities.
    SignedZeroInfNanPreserve,
    /// To nearest, ties to even.
    RoundingRte,
}

impl FloatMode {
    fn capability(self) -> u32 {
        match self {
            Self::DenormPreserve => 4464,
            Self::SignedZeroInfNanPreserve => 4466,
            Self::RoundingRte => 4467,
        }
    }

    fn execution_mode(self) -> u32 {
        match self {
            Self::DenormPreserve => 4459,
            Self::SignedZeroInfNanPreserve => 4461,
            Self::RoundingRte => 4462,
        }
    }
}

/// Completes a module of one entry point. `modes` are those to set, each for floats of so many bits.
pub(crate) fn keep_arithmetic(module: &[u32], modes: &[(FloatMode, u32)]) -> Vec<u32> {
    let instructions = || Instructions { words: module, at: HEADER };
    let operation = |words: &[u32]| words[0] & 0xffff;
    let entry_point =
        instructions().find(|words| operation(words) == OP_ENTRY_POINT).map_or(0, |words| words[2]);
    let mut out = module[..HEADER].to_vec();
    let [mut is_decorated, mut has_modes, mut has_extension] = [false; 3];
    for words in instructions() {
        let opcode = operation(words);
        if opcode != OP_CAPABILITY && !has_extension {
            has_extension = true;
            put_extension(&mut out, modes);
        }
        // Modes stand behind entry points.
        if !has_modes && ![OP_CAPABILITY, OP_EXTENSION, 11, OP_MEMORY_MODEL, OP_ENTRY_POINT].contains(&opcode)
        {
            has_modes = true;
            for (mode, width) in modes {
                put(&mut out, OP_EXECUTION_MODE, &[entry_point, mode.execution_mode(), *width]);
            }
        }
        if !is_decorated && !BEFORE_TYPES.contains(&opcode) {
            is_decorated = true;
            for result in instructions()
                .filter(|words| FLOAT_OPERATIONS.contains(&operation(words)))
                .map(|words| words[2])
            {
                put(&mut out, OP_DECORATE, &[result, NO_CONTRACTION]);
            }
        }
        out.extend(words);
    }
    out
}

/// Capabilities, and the extension that has them.
fn put_extension(out: &mut Vec<u32>, modes: &[(FloatMode, u32)]) {
    if modes.is_empty() {
        return;
    }
    let mut known = Vec::new();
    for (mode, _) in modes {
        if !known.contains(mode) {
            known.push(*mode);
            put(out, OP_CAPABILITY, &[mode.capability()]);
        }
    }
    let mut name: Vec<u8> = FLOAT_CONTROLS.into();
    // A string ends with a zero, and is whole words.
    name.resize((name.len() + 1).next_multiple_of(4), 0);
    let name: Vec<u32> = name.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    put(out, OP_EXTENSION, &name);
}

fn put(out: &mut Vec<u32>, opcode: u32, operands: &[u32]) {
    out.push(first_word(operands.len() as u32 + 1, opcode));
    out.extend(operands);
}

/// The first word of an instruction of so many words.
const fn first_word(words: u32, opcode: u32) -> u32 {
    words << 16 | opcode
}

/// The instructions of a module, each with its first word.
struct Instructions<'a> {
    words: &'a [u32],
    at: usize,
}

impl<'a> Iterator for Instructions<'a> {
    type Item = &'a [u32];

    fn next(&mut self) -> Option<&'a [u32]> {
        let first = *self.words.get(self.at)?;
        let instruction = self.words.get(self.at..self.at + (first >> 16).max(1) as usize)?;
        self.at += instruction.len();
        Some(instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capability, the memory model, an entry point 4, a type, an addition with result 9, a product with result 10.
    const MODULE: [u32; 27] = [
        0x0723_0203,
        0x0001_0300,
        0,
        20,
        0, // header
        first_word(2, 17),
        1, // capability
        first_word(3, 14),
        0,
        1, // memory model
        first_word(5, 15),
        5,
        4,
        0x6e69_616d,
        0, // entry point "main"
        first_word(2, 19),
        2, // type
        first_word(5, 129),
        3,
        9,
        7,
        8, // addition
        first_word(5, 133),
        3,
        10,
        7,
        8, // product
    ];

    #[test]
    fn each_float_operation_is_kept_apart_before_the_types() {
        let out = keep_arithmetic(&MODULE, &[]);
        let mut expected = MODULE[..15].to_vec();
        expected.extend([first_word(3, 71), 9, 42, first_word(3, 71), 10, 42]);
        expected.extend(&MODULE[15..]);
        assert_eq!(out, expected);
    }

    #[test]
    fn modes_stand_behind_the_entry_point_and_name_it() {
        let out =
            keep_arithmetic(&MODULE, &[(FloatMode::DenormPreserve, 32), (FloatMode::DenormPreserve, 64)]);
        let modes = [first_word(4, 16), 4, 4459, 32, first_word(4, 16), 4, 4459, 64];
        assert!(out.windows(modes.len()).any(|words| words == modes));
        assert_eq!(out.windows(2).filter(|words| words == &[first_word(2, 17), 4464]).count(), 1);
        let place = |word| out.iter().position(|&found| found == word).unwrap();
        assert!(
            place(first_word(2, 17)) < place(first_word(3, 14))
                && place(first_word(5, 15)) < place(first_word(4, 16))
        );
    }
}
