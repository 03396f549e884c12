//! How a GPU's float arithmetic is made the CPU's.

/// How multiply-adds that round once are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiplyAdd {
    /// By the device's own instruction.
    Fused,
    /// In double precision.
    Double,
    /// Not at all: they round twice.
    Separate,
}

/// How quotients and roots are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotients {
    /// By the device's own instructions.
    Native,
    /// By those, corrected by what they leave.
    Corrected,
}

/// How halves are widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// By the device's own instruction.
    Native,
    /// Bit by bit: the device loses those below the normal ones.
    FromBits,
}

/// How a GPU's float arithmetic is made the CPU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// Multiply-adds.
    pub multiply_add: MultiplyAdd,
    /// Quotients and roots.
    pub quotients: Quotients,
    /// Halves.
    pub halves: Halves,
}

/// Whether a GPU's results are the CPU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// In every bit.
    Bits,
    /// Not in every bit; but the same results for the same tokens, whatever the draft, the batch and the chunk.
    SelfConsistent {
        /// What differs.
        why: String,
    },
}

impl Arithmetic {
    /// All by the device's own instructions.
    pub(crate) const NATIVE: Self =
        Self { multiply_add: MultiplyAdd::Fused, quotients: Quotients::Native, halves: Halves::Native };

    /// Whether shaders compute in double precision.
    pub(crate) fn has_doubles(self) -> bool {
        self.multiply_add == MultiplyAdd::Double
    }

    /// What stands before every operator.
    pub(crate) fn source(self) -> String {
        let multiply_add = match self.multiply_add {
            MultiplyAdd::Fused => include_str!("shaders/multiply_add_fused.wgsl"),
            MultiplyAdd::Double => include_str!("shaders/multiply_add_double.wgsl"),
            MultiplyAdd::Separate => include_str!("shaders/multiply_add_separate.wgsl"),
        };
        let quotients = match self.quotients {
            Quotients::Native => include_str!("shaders/quotients_native.wgsl"),
            Quotients::Corrected => include_str!("shaders/quotients_corrected.wgsl"),
        };
        let halves = match self.halves {
            Halves::Native => include_str!("shaders/halves_native.wgsl"),
            Halves::FromBits => include_str!("shaders/halves_from_bits.wgsl"),
        };
        let common = include_str!("shaders/common.wgsl");
        [multiply_add, quotients, halves, common].concat()
    }
}

impl std::fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.multiply_add {
            MultiplyAdd::Fused => "fused multiply-add",
            MultiplyAdd::Double => "multiply-add in double precision",
            MultiplyAdd::Separate => "multiply-add rounded twice",
        })?;
        f.write_str(match self.quotients {
            Quotients::Native => ", division of its own",
            Quotients::Corrected => ", division corrected",
        })
    }
}
