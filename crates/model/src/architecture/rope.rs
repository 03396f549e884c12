//! Rotary position embeddings of models, and the ways to stretch them to longer contexts.
//!
//! What makes an angle is computed by `libm`, or by operations that IEEE 754 rounds correctly: the system's `pow` and `ln` have
//! other bits on other platforms.

use std::f64::consts::PI;

use lookahead_kernels::{RopePairs, RopeTable, rope_frequencies};

/// A rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which dimensions form pairs.
    pub pairs: RopePairs,
    /// Rotated dimensions of a head.
    pub dimensions: usize,
    /// Base of the frequencies.
    pub base: f64,
    /// Factor on positions: below 1 for linear scaling to longer contexts.
    pub position_scale: f64,
    /// Divisors of the frequencies, one a pair.
    pub factors: RopeFactors,
    /// Factor on the rotated dimensions.
    pub magnitude: f64,
}

/// Divisors of a rotary embedding's frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeFactors {
    /// All are 1.
    None,
    /// They are a tensor, if the file has it.
    Tensor(&'static str),
    /// These.
    Values(Vec<f32>),
}

impl Rope {
    /// As if it turned so many dimensions, in pairs of all: the others have angles of 0.
    pub(super) fn turned_in_part(self, dimensions: usize) -> Self {
        let factors =
            (0..self.dimensions / 2).map(|pair| if pair < dimensions / 2 { 1.0 } else { f32::INFINITY });
        Self { factors: RopeFactors::Values(factors.collect()), ..self }
    }

    /// The table of angles; `tensor` are the factors if they are a tensor that the file has.
    pub(crate) fn table(&self, tensor: Option<&[f32]>) -> RopeTable {
        let factors = match &self.factors {
            RopeFactors::Values(factors) => Some(&factors[..]),
            RopeFactors::None | RopeFactors::Tensor(_) => tensor,
        };
        RopeTable::new(self.pairs, self.dimensions, self.base, self.position_scale, factors)
            .with_magnitude(self.magnitude)
    }

    /// Llama 3.1's scaling: wavelengths beyond the original context are stretched by `factor`, short ones stay as they
    /// are, and between the two the frequency is interpolated (Grattafiori et al., "The Llama 3 Herd of Models", 2024).
    pub(super) fn llama3(self, factor: f64, [low, high]: [f64; 2], original_context: f64) -> Self {
        let factors = rope_frequencies(self.dimensions, self.base).map(|frequency| {
            let turns = original_context * frequency / (2.0 * PI);
            let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - share) / factor + share)) as f32
        });
        Self { factors: RopeFactors::Values(factors.collect()), ..self }
    }

    /// YaRN (Peng et al., "YaRN: Efficient Context Window Extension", 2023): pairs that turn more than `fast` times within
    /// the original context stay, those that turn less than `slow` times are stretched by `factor`, and between the two
    /// runs a ramp over the pairs, from a whole pair to a whole pair if it is `rounded`.
    pub(super) fn yarn(
        self,
        factor: f64,
        [fast, slow]: [f64; 2],
        original_context: f64,
        rounded: bool,
    ) -> Self {
        let pair_of = |turns: f64| {
            let wavelengths = original_context / (turns * 2.0 * PI);
            self.dimensions as f64 * libm::log(wavelengths) / (2.0 * libm::log(self.base))
        };
        let last = self.dimensions as f64 - 1.0;
        let (low, high) = (pair_of(fast), pair_of(slow));
        let (low, high) = if rounded { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(last));
        let width = if low == high { 0.001 } else { high - low };
        let factors = (0..self.dimensions / 2).map(|pair| {
            let stretched = ((pair as f64 - low) / width).clamp(0.0, 1.0);
            (1.0 / (stretched / factor + (1.0 - stretched))) as f32
        });
        Self { factors: RopeFactors::Values(factors.collect()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope() -> Rope {
        Rope {
            pairs: RopePairs::Halves,
            dimensions: 8,
            base: 10_000.0,
            position_scale: 1.0,
            factors: RopeFactors::None,
            magnitude: 1.0,
        }
    }

    fn factors(rope: &Rope) -> &[f32] {
        match &rope.factors {
            RopeFactors::Values(factors) => factors,
            RopeFactors::None | RopeFactors::Tensor(_) => &[],
        }
    }

    #[test]
    fn slow_pairs_are_stretched_and_fast_ones_stay() {
        // Wavelengths 6, 63, 628 and 6283 in an original context of 256: 41, 4.1, 0.41 and 0.04 turns.
        for rope in [rope().llama3(8.0, [1.0, 4.0], 256.0), rope().yarn(8.0, [32.0, 1.0], 256.0, true)] {
            let factors = factors(&rope);
            assert_eq!((factors[0], factors[3]), (1.0, 8.0), "{factors:?}");
            assert!(factors.is_sorted(), "{factors:?}");
        }
    }
}
