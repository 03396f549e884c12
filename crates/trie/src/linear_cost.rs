//! What drafted tokens cost where they are counted by the step of a whole batch.

use crate::{CostCurve, CostCurveError, CostPoint};

/// Where the second point of the curve stands behind the first drafted token: so far that its slope has no error of rounding
/// to speak of.
const SPAN: usize = 1 << 10;

/// A straight line: a step over a batch with n drafted tokens lasts `1 + fixed_cost + token_cost * n` plain steps of that
/// batch, or 1 if n is 0.
///
/// ```
/// use lookahead_trie::LinearCost;
///
/// let cost = LinearCost::new(0.02, 0.015)?;
/// assert_eq!((cost.of(0), cost.of(2)), (1.0, 1.05));
/// // Of two drafts, roots included: what is unlikely is not worth its price.
/// assert_eq!(cost.curve(2).share(0, &[&[1.0, 0.9, 0.8], &[1.0, 0.001]]), [3, 1]);
/// # Ok::<(), lookahead_trie::CostCurveError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearCost {
    fixed_cost: f64,
    token_cost: f64,
}

impl LinearCost {
    /// A step with drafts costs `fixed_cost` more than a plain one, and `token_cost` more for each drafted token.
    ///
    /// # Errors
    /// If one of them is below 0 or not finite.
    pub fn new(fixed_cost: f64, token_cost: f64) -> Result<Self, CostCurveError> {
        for (name, value) in [("fixed_cost", fixed_cost), ("token_cost", token_cost)] {
            if !(0.0..=f64::MAX).contains(&value) {
                return Err(CostCurveError::NoCost { name, value });
            }
        }
        Ok(Self { fixed_cost, token_cost })
    }

    /// How often `fixed_cost` and `token_cost` are paid in a step with so many drafted tokens: for who fits them to steps.
    pub fn terms(drafted: usize) -> [f64; 2] {
        [f64::from(drafted > 0), drafted as f64]
    }

    /// A step with so many drafted tokens, in plain steps.
    pub fn of(self, drafted: usize) -> f64 {
        let [fixed, tokens] = Self::terms(drafted);
        1.0 + self.fixed_cost * fixed + self.token_cost * tokens
    }

    /// The curve of a batch of so many sequences, by the tokens of a pass: one of each sequence, and the drafted ones.
    pub fn curve(self, sequences: usize) -> CostCurve {
        let plain = sequences.max(1);
        let point = |drafted| CostPoint { tokens: plain + drafted, ms: self.of(drafted).min(f64::MAX) };
        CostCurve::new([0, 1, 1 + SPAN].map(point).to_vec()).expect("the line ascends from 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_of_a_batch_is_the_line_behind_its_plain_step() {
        for (fixed, token) in [(0.0, 0.0), (0.0, 0.05), (0.2, 0.0), (0.02, 0.015), (100.0, 3.0)] {
            let cost = LinearCost::new(fixed, token).unwrap();
            for sequences in [1, 7, 300] {
                let curve = cost.curve(sequences);
                for drafted in [0, 1, 2, 15, 1000, 5000] {
                    let (by_curve, by_line) = (curve.relative(sequences + drafted), cost.of(drafted));
                    assert!((by_curve - by_line).abs() <= 1e-12 * by_line, "{by_curve} {by_line}");
                }
            }
        }
    }

    #[test]
    fn a_cost_that_none_can_be_is_named() {
        let error = |fixed, token| LinearCost::new(fixed, token).unwrap_err().to_string();
        assert!(error(-1.0, 0.0).starts_with("fixed_cost is -1;"));
        assert!(error(0.0, f64::NAN).starts_with("token_cost is NaN;"));
        assert!(error(0.0, f64::INFINITY).starts_with("token_cost is inf;"));
        // Whatever is dear, there is a curve.
        assert_eq!(LinearCost::new(f64::MAX, f64::MAX).unwrap().curve(1).share(0, &[&[1.0, 1.0]]), [1]);
    }
}
