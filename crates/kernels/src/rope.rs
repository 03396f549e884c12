//! Rotary position embeddings (Su et al., 2021): pairs of a head's dimensions are turned by an angle that grows with
//! the position, at a frequency that falls with the pair.

use crate::Isa;
use crate::simd::simd_fn;

/// Which dimensions form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(0, 1), (2, 3), …`: the original paper; Llama in GGUF files.
    Interleaved,
    /// `(0, n/2), (1, n/2 + 1), …`: GPT-NeoX; Qwen, Gemma.
    Halves,
}

/// Cosines and sines of every position up to a limit.
///
/// Computed in double precision by `libm`, so that they are the same on every platform.
#[derive(Clone, Debug)]
pub struct RopeTable {
    pairs: RopePairs,
    dimensions: usize,
    /// Factor on cosines and sines.
    magnitude: f64,
    frequencies: Vec<f64>,
    /// `[position][pair]`, cosine and sine.
    angles: Vec<[f32; 2]>,
}

impl RopeTable {
    /// The table for `dimensions` rotated dimensions of a head. Pair `i` turns by
    /// `position * scale * base^(-2i / dimensions) / factors[i]`; without `factors`, they are 1.
    ///
    /// # Panics
    /// If `dimensions` is odd or `factors` has not one entry a pair.
    pub fn new(pairs: RopePairs, dimensions: usize, base: f64, scale: f64, factors: Option<&[f32]>) -> Self {
        assert!(dimensions.is_multiple_of(2), "dimensions come in pairs");
        let frequencies: Vec<f64> = (0..dimensions / 2)
            .map(|i| {
                let frequency = scale * libm::pow(base, -2.0 * i as f64 / dimensions as f64);
                factors.map_or(frequency, |factors| frequency / f64::from(factors[i]))
            })
            .collect();
        assert!(factors.is_none_or(|factors| factors.len() == frequencies.len()), "one factor a pair");
        Self { pairs, dimensions, magnitude: 1.0, frequencies, angles: Vec::new() }
    }

    /// The same table with rotated dimensions multiplied by `magnitude`, as YaRN (Peng et al., 2023) and LongRoPE have it.
    #[must_use]
    pub fn with_magnitude(self, magnitude: f64) -> Self {
        Self { magnitude, angles: Vec::new(), ..self }
    }

    /// Extends the table to positions below `positions`.
    pub fn reserve(&mut self, positions: usize) {
        let known = self.angles.len().checked_div(self.frequencies.len()).unwrap_or(positions);
        for position in known..positions {
            self.angles.extend(self.frequencies.iter().map(|frequency| {
                let angle = position as f64 * frequency;
                [libm::cos(angle), libm::sin(angle)].map(|value| (self.magnitude * value) as f32)
            }));
        }
    }

    /// Turns `heads`, consecutive heads of `head_dim` values, to `position`. Dimensions beyond the rotated ones stay.
    ///
    /// # Panics
    /// If the table does not reach `position` ([`RopeTable::reserve`]) or heads are smaller than the rotated part.
    pub fn rotate(&self, isa: Isa, heads: &mut [f32], head_dim: usize, position: usize) {
        let half = self.dimensions / 2;
        let angles = &self.angles[position * half..][..half];
        rotate_heads(isa, self.pairs, angles, heads, head_dim);
    }
}

simd_fn! {
    fn rotate_heads(_simd, pairs: RopePairs, angles: &[[f32; 2]], heads: &mut [f32], head_dim: usize) {
        for head in heads.chunks_exact_mut(head_dim) {
            let rotated = &mut head[..2 * angles.len()];
            match pairs {
                RopePairs::Interleaved => {
                    for ([a, b], [cos, sin]) in rotated.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
                RopePairs::Halves => {
                    let (first, second) = rotated.split_at_mut(angles.len());
                    for ((a, b), [cos, sin]) in first.iter_mut().zip(second).zip(angles) {
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_turns_by_position_times_frequency() {
        let mut table = RopeTable::new(RopePairs::Interleaved, 4, 100.0, 1.0, Some(&[1.0, 2.0]));
        table.reserve(4);
        let mut head = [1.0, 0.0, 0.0, 1.0, 5.0, 6.0];
        table.rotate(Isa::detect(), &mut head, 6, 3);
        // Frequencies 1 and 100^(-1/2) / 2 = 0.05.
        let expected = [3f32.cos(), 3f32.sin(), -(0.15f32.sin()), 0.15f32.cos(), 5.0, 6.0];
        assert!(head.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{head:?}");
    }

    #[test]
    fn the_two_pairings_differ_only_in_the_order_of_dimensions() {
        let x: Vec<f32> = (0..16).map(|i| i as f32 - 7.5).collect();
        let mut tables =
            [RopePairs::Interleaved, RopePairs::Halves].map(|p| RopeTable::new(p, 16, 1e4, 0.5, None));
        for table in &mut tables {
            table.reserve(10);
        }
        let mut interleaved: Vec<f32> = (0..8).flat_map(|i| [x[i], x[i + 8]]).collect();
        let mut halves = x.clone();
        tables[0].rotate(Isa::SCALAR, &mut interleaved, 16, 9);
        tables[1].rotate(Isa::detect(), &mut halves, 16, 9);
        for i in 0..8 {
            assert_eq!([interleaved[2 * i], interleaved[2 * i + 1]], [halves[i], halves[i + 8]]);
        }
    }

    #[test]
    fn extending_a_table_changes_nothing_in_it() {
        let mut stepwise = RopeTable::new(RopePairs::Halves, 8, 1e4, 1.0, None);
        let mut at_once = stepwise.clone();
        (0..20).for_each(|n| stepwise.reserve(n));
        at_once.reserve(19);
        assert_eq!(stepwise.angles, at_once.angles);
    }
}
