//! Rotary position embeddings (Su et al., 2021): pairs of a head's dimensions are turned by an angle that grows with
//! the position, at a frequency that falls with the pair.

use crate::simd::{Isa, simd_fn};

/// Which dimensions form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(0, 1), (2, 3), …`: the original paper; Llama in GGUF files.
    Interleaved,
    /// `(0, n/2), (1, n/2 + 1), …`: GPT-NeoX; Qwen, Gemma.
    Halves,
}

/// The angle per position of each pair of `dimensions` rotated dimensions: `base^(-2i / dimensions)` for pair `i`. Computed by
/// `libm`, so that it is the same on every platform.
pub fn rope_frequencies(dimensions: usize, base: f64) -> impl Iterator<Item = f64> {
    (0..dimensions / 2).map(move |pair| libm::pow(base, -2.0 * pair as f64 / dimensions as f64))
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
        assert!(factors.is_none_or(|factors| factors.len() == dimensions / 2), "one factor a pair");
        let frequencies = rope_frequencies(dimensions, base).enumerate().map(|(pair, frequency)| {
            let frequency = scale * frequency;
            factors.map_or(frequency, |factors| frequency / f64::from(factors[pair]))
        });
        let frequencies = frequencies.collect();
        Self { pairs, dimensions, magnitude: 1.0, frequencies, angles: Vec::new() }
    }

    /// The same table with rotated dimensions multiplied by `magnitude`, as YaRN (Peng et al., 2023) and LongRoPE have it.
    #[must_use]
    pub fn with_magnitude(self, magnitude: f64) -> Self {
        Self { magnitude, angles: Vec::new(), ..self }
    }

    /// Which dimensions form a pair.
    pub fn pairs(&self) -> RopePairs {
        self.pairs
    }

    /// How many dimensions of a head are rotated.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Cosine and sine of each pair at `position`.
    ///
    /// # Panics
    /// If the table does not reach `position` ([`RopeTable::reserve`]).
    pub fn angles(&self, position: usize) -> &[[f32; 2]] {
        let half = self.dimensions / 2;
        &self.angles[position * half..][..half]
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
    /// If the table does not reach `position` ([`RopeTable::reserve`]), `heads` are no whole heads, or heads are smaller than
    /// the rotated part.
    pub fn rotate(&self, isa: Isa, heads: &mut [f32], head_dim: usize, position: usize) {
        assert!(heads.len().is_multiple_of(head_dim), "whole heads of {head_dim} values");
        rotate_heads(isa, self.pairs, self.angles(position), heads, head_dim);
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
