//! What a forward pass costs, by its number of tokens: the cost curve of a model.
//!
//! It is measured by whoever runs the model. How large a draft pays by it is told in `budget.rs`.

/// What a forward pass over some tokens takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CostPoint {
    /// Tokens of the pass.
    pub tokens: usize,
    /// Its time in milliseconds, the most likely token after each included.
    pub ms: f64,
}

/// The time of a forward pass by its number of tokens: measured points, straight lines between them, and the last
/// line's slope beyond them. It never falls.
///
/// In serde's formats (the feature `serde`) it is the list of its points; reading checks them as [`CostCurve::new`] does.
///
/// ```
/// use lookahead_trie::{CostCurve, CostPoint};
///
/// let points = [(1, 4.0), (2, 4.4), (8, 8.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
/// let curve = CostCurve::new(points.to_vec())?;
/// assert_eq!(curve.relative(8), 2.0);
/// // The root and the drafts of a tree, the likeliest first: the last one is not worth its time.
/// assert_eq!(curve.best_prefix(&[1.0, 0.8, 0.5, 0.05]), 3);
/// # Ok::<(), lookahead_trie::CostCurveError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Vec<CostPoint>", into = "Vec<CostPoint>")
)]
pub struct CostCurve {
    points: Vec<CostPoint>,
}

/// Why there is no cost curve.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CostCurveError {
    /// No points.
    #[error("a cost curve needs at least one number of tokens")]
    Empty,
    /// The numbers of tokens do not begin above 0 or do not ascend.
    #[error("the numbers of tokens of a cost curve ascend from 1 or more; {0} does not")]
    NotAscending(usize),
    /// A time that none can be.
    #[error("a pass over {} tokens cannot take {} ms", .0.tokens, .0.ms)]
    NoTime(CostPoint),
    /// A cost that none can be.
    #[error("{name} is {value}; a number of at least 0 is needed")]
    NoCost {
        /// Which one.
        name: &'static str,
        /// What was given.
        value: f64,
    },
}

impl CostCurve {
    /// A curve through `points`. Where times fall, they are replaced by their mean: more tokens are not less work, so
    /// that was noise.
    ///
    /// # Errors
    /// If there are no points, their numbers of tokens do not ascend from 1 or more, or a time is not above 0 and finite.
    pub fn new(points: Vec<CostPoint>) -> Result<Self, CostCurveError> {
        if points.is_empty() {
            return Err(CostCurveError::Empty);
        }
        check_ascending(points.iter().map(|point| point.tokens))?;
        if let Some(&point) = points.iter().find(|point| !(point.ms > 0.0 && point.ms.is_finite())) {
            return Err(CostCurveError::NoTime(point));
        }
        Ok(Self { points: without_falls(points) })
    }

    /// The points that the curve runs through; their numbers of tokens ascend, and their times do not fall.
    pub fn points(&self) -> &[CostPoint] {
        &self.points
    }

    /// Milliseconds of a pass over `tokens` tokens. Below the first point, those of the first point.
    pub fn ms(&self, tokens: usize) -> f64 {
        let points = &self.points;
        let after = points.partition_point(|point| point.tokens < tokens);
        if after == 0 || points.len() == 1 {
            return points[0].ms;
        }
        let last = after.min(points.len() - 1);
        let (a, b) = (points[last - 1], points[last]);
        let slope = (b.ms - a.ms) / (b.tokens - a.tokens) as f64;
        if tokens < b.tokens {
            (a.ms + slope * (tokens - a.tokens) as f64).min(b.ms) // rounding may carry it past
        } else {
            b.ms + slope * (tokens - b.tokens) as f64
        }
    }

    /// c(N): the time of a pass over `tokens` tokens in passes over one.
    pub fn relative(&self, tokens: usize) -> f64 {
        self.ms(tokens) / self.ms(1)
    }
}

impl TryFrom<Vec<CostPoint>> for CostCurve {
    type Error = CostCurveError;

    fn try_from(points: Vec<CostPoint>) -> Result<Self, CostCurveError> {
        Self::new(points)
    }
}

impl From<CostCurve> for Vec<CostPoint> {
    fn from(curve: CostCurve) -> Self {
        curve.points
    }
}

fn check_ascending(tokens: impl Iterator<Item = usize>) -> Result<(), CostCurveError> {
    let mut previous = 0;
    for tokens in tokens {
        if tokens <= previous {
            return Err(CostCurveError::NotAscending(tokens));
        }
        previous = tokens;
    }
    Ok(())
}

/// The closest times, in least squares, that do not fall: neighbours that do are pooled into their mean (the "pool
/// adjacent violators" of isotonic regression; Ayer et al. 1955).
fn without_falls(mut points: Vec<CostPoint>) -> Vec<CostPoint> {
    let mut pools: Vec<(f64, usize)> = Vec::with_capacity(points.len()); // mean, points
    for point in &points {
        let mut pool = (point.ms, 1);
        while let Some(&(mean, count)) = pools.last().filter(|(mean, _)| *mean > pool.0) {
            pools.pop();
            let all = count + pool.1;
            pool = ((mean * count as f64 + pool.0 * pool.1 as f64) / all as f64, all);
        }
        pools.push(pool);
    }
    let means = pools.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean, count));
    for (point, mean) in points.iter_mut().zip(means) {
        point.ms = mean;
    }
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(points: &[(usize, f64)]) -> CostCurve {
        CostCurve::new(points.iter().map(|&(tokens, ms)| CostPoint { tokens, ms }).collect()).unwrap()
    }

    #[test]
    fn a_curve_runs_straight_between_its_points_and_on_behind_them() {
        let curve = curve(&[(2, 4.0), (4, 5.0), (8, 9.0)]);
        let expected = [(1, 4.0), (2, 4.0), (3, 4.5), (4, 5.0), (6, 7.0), (8, 9.0), (9, 10.0), (108, 109.0)];
        for (tokens, ms) in expected {
            assert_eq!(curve.ms(tokens), ms, "{tokens}");
        }
        assert_eq!(curve.relative(8), 2.25);
        let one = super::tests::curve(&[(1, 4.0)]);
        assert_eq!((one.ms(1), one.ms(50)), (4.0, 4.0), "one point has no slope");
    }

    #[test]
    fn times_that_fall_are_pooled_into_their_mean() {
        let ms = |times: &[f64]| {
            let points: Vec<_> = times.iter().copied().enumerate().map(|(i, ms)| (i + 1, ms)).collect();
            curve(&points).points().iter().map(|point| point.ms).collect::<Vec<_>>()
        };
        assert_eq!(ms(&[1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]);
        assert_eq!(ms(&[1.0, 4.0, 2.0, 5.0]), [1.0, 3.0, 3.0, 5.0]);
        // The pool of 5 and 3 is above the 4 before it, and joins the 1 behind it: all four are noise around 3.25.
        assert_eq!(ms(&[4.0, 5.0, 3.0, 1.0]), [3.25; 4]);
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        let new = |points: &[(usize, f64)]| {
            CostCurve::new(points.iter().map(|&(tokens, ms)| CostPoint { tokens, ms }).collect())
        };
        assert_eq!(new(&[]), Err(CostCurveError::Empty));
        for (points, at) in [(&[(0, 1.0)][..], 0), (&[(1, 1.0), (1, 2.0)], 1), (&[(3, 1.0), (2, 2.0)], 2)] {
            assert_eq!(new(points), Err(CostCurveError::NotAscending(at)));
        }
        for ms in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            assert!(matches!(new(&[(1, ms)]), Err(CostCurveError::NoTime(_))), "{ms}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_curve_is_its_points_in_json() {
        let curve = curve(&[(1, 4.25), (3, 5.5)]);
        let json = r#"[{"tokens":1,"ms":4.25},{"tokens":3,"ms":5.5}]"#;
        assert_eq!(serde_json::to_string(&curve).unwrap(), json);
        assert_eq!(serde_json::from_str::<CostCurve>(json).unwrap(), curve);
        for (json, problem) in [
            ("[]", "at least one"),
            (r#"[{"tokens":2,"ms":1.0},{"tokens":1,"ms":2.0}]"#, "1 does not"),
            (r#"[{"tokens":1,"ms":-1.0}]"#, "-1 ms"),
        ] {
            let error = serde_json::from_str::<CostCurve>(json).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_curve_never_falls_and_keeps_the_sum_of_its_times(
            times in prop::collection::vec(0.01f64..10.0, 1..30),
        ) {
            let points: Vec<_> = times.iter().copied().enumerate().map(|(i, ms)| (2 * i + 1, ms)).collect();
            let curve = curve(&points);
            for tokens in 1..70 {
                prop_assert!(curve.ms(tokens) <= curve.ms(tokens + 1));
            }
            let sum: f64 = curve.points().iter().map(|point| point.ms).sum();
            prop_assert!((sum - times.iter().sum::<f64>()).abs() < 1e-9 * sum);
        }
    }
}
