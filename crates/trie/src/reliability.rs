//! How true estimated probabilities were.

/// Probabilities told apart.
const BINS: usize = 10;

/// Drafted tokens whose parents were accepted, by the probability that they were given: a reliability table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    bins: [ReliabilityBin; BINS],
}

/// Drafted tokens of like probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReliabilityBin {
    /// How many there were.
    pub drafted: u64,
    /// The sum of their probabilities.
    pub expected: f64,
    /// How many were accepted.
    pub accepted: u64,
}

impl Reliability {
    pub(crate) fn add(&mut self, probability: f32, is_accepted: bool) {
        let bin = &mut self.bins[((probability * BINS as f32) as usize).min(BINS - 1)];
        bin.drafted += 1;
        bin.expected += f64::from(probability);
        bin.accepted += u64::from(is_accepted);
    }

    /// Tokens of like probability, ascending; those of the n-th bin had n tenths or more.
    pub fn bins(&self) -> &[ReliabilityBin] {
        &self.bins
    }

    /// Adds what another request saw.
    pub fn join(&mut self, other: &Self) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.drafted += other.drafted;
            bin.expected += other.expected;
            bin.accepted += other.accepted;
        }
    }

    /// The expected calibration error: how far the share of accepted tokens is from their mean probability, averaged over
    /// all drafted tokens. 0 if there are none.
    pub fn calibration_error(&self) -> f64 {
        let off = self.bins.iter().map(|bin| (bin.expected - bin.accepted as f64).abs()).sum::<f64>();
        off / self.bins.iter().map(|bin| bin.drafted).sum::<u64>().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calibration_error_is_how_far_promises_are_from_what_came() {
        let (mut one, mut other) = (Reliability::default(), Reliability::default());
        assert_eq!(one.calibration_error(), 0.0);
        for is_accepted in [true, false, false, false] {
            one.add(0.25, is_accepted);
        }
        assert_eq!(one.calibration_error(), 0.0);
        other.add(1.0, false);
        other.add(0.75, true);
        other.join(&one);
        let bins: Vec<u64> = other.bins().iter().map(|bin| bin.drafted).collect();
        assert_eq!(bins, [0, 0, 4, 0, 0, 0, 0, 1, 0, 1]);
        assert!((other.calibration_error() - (1.0 + 0.25) / 6.0).abs() < 1e-9);
    }
}
