//! The cost curve of a model: what a forward pass over N tokens takes, measured; and how large a draft pays by it.
//!
//! A draft of N nodes, the root counted, yields the sum of their path probabilities in expected tokens (the root stands
//! for the token that every pass yields) and costs the time of a pass over N tokens. [`CostCurve::best_prefix`] takes
//! the number of nodes with the greatest ratio. It compares all numbers instead of stopping at the first node that does
//! not pay, as kernels compute tokens in tiles: behind a node that opens a tile, several may be nearly free.

use std::time::{Duration, Instant};

use lookahead_model::{
    Accepted, Cache, ForwardError, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenId, TokenTree,
};
use serde::{Deserialize, Serialize};

/// A chunk of the context that passes are measured behind, in tokens.
const PREFILL_CHUNK: usize = 256;

/// How long passes of one size follow each other, at most: the last half of them is timed. Caches take that long to settle
/// on weights that they share with other programs, for the pace at which passes of a size read them.
const BLOCK: Duration = Duration::from_millis(60);

/// Passes of one block, at least: a first one that finds things as another size left them, and two that count.
const MIN_PASSES: usize = 3;

/// Passes of one block, at most.
const MAX_PASSES: usize = 32;

/// Blocks of the smallest size before it is timed. Its time is what all others are compared with, and the one that most
/// depends on settled caches.
const SETTLING_BLOCKS: usize = 2;

/// Rounds over all sizes, at most: with more, the median of an undisturbed machine hardly moves.
const MAX_ROUNDS: u32 = 5;

/// What a forward pass over some tokens takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostPoint {
    /// Tokens of the pass.
    pub tokens: usize,
    /// Its time in milliseconds, the most likely token after each included.
    pub ms: f64,
}

/// The time of a forward pass by its number of tokens: measured points, straight lines between them, and the last
/// line's slope beyond them. It never falls.
///
/// In serde's formats it is the list of its points; reading checks them as [`CostCurve::new`] does.
///
/// ```
/// use lookahead_engine::{CostCurve, CostPoint};
///
/// let points = [(1, 4.0), (2, 4.4), (8, 8.0)].map(|(tokens, ms)| CostPoint { tokens, ms });
/// let curve = CostCurve::new(points.to_vec())?;
/// assert_eq!(curve.relative(8), 2.0);
/// // The root and the drafts of a tree, the likeliest first: the last one is not worth its time.
/// assert_eq!(curve.best_prefix(&[1.0, 0.8, 0.5, 0.05]), 3);
/// # Ok::<(), lookahead_engine::CostCurveError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<CostPoint>", into = "Vec<CostPoint>")]
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
    /// The model refused a pass.
    #[error("forward pass: {0}")]
    Forward(#[from] ForwardError),
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

    /// Measures passes over each of the numbers `tokens` (ascending) behind a context of `context` tokens, in the steady
    /// state that decoding reaches: many passes of a size one after the other, of which the last count. There are as many
    /// rounds over all sizes as fit into `budget`, but at least one. The context is shortened, and larger passes are left
    /// out, where the model's own context has no room. `on_progress` hears, from 0 to 1, how far it has come.
    ///
    /// # Errors
    /// As [`CostCurve::new`], and if the model refuses a pass.
    pub fn measure<M: LanguageModel>(
        model: &mut M,
        context: usize,
        tokens: &[usize],
        budget: Duration,
        mut on_progress: impl FnMut(f64),
    ) -> Result<Self, CostCurveError> {
        check_ascending(tokens.iter().copied())?;
        let mut sizes = tokens.to_vec();
        sizes.retain(|&size| size <= model.context_length());
        let &largest = sizes.last().ok_or(CostCurveError::Empty)?;
        let mut bench = Bench::new(model, context.min(model.context_length() - largest), largest)?;

        let block = BLOCK.min(budget / sizes.len() as u32);
        let mut blocks = vec![Vec::with_capacity(MAX_ROUNDS as usize); sizes.len()];
        let began = Instant::now();
        // The first pass of a size finds cold buffers; the largest one warms them for all.
        bench.time(largest)?;
        for round in 0..MAX_ROUNDS {
            let with_another = began.elapsed() / round.max(1) * (round + 1);
            if round > 0 && with_another > budget {
                break;
            }
            for _ in 0..SETTLING_BLOCKS {
                bench.time_block(sizes[0], block)?;
            }
            for (index, (&size, blocks)) in sizes.iter().zip(&mut blocks).enumerate() {
                blocks.push(bench.time_block(size, block)?);
                let rounds = f64::from(round) + (index + 1) as f64 / sizes.len() as f64;
                let spent = began.elapsed().as_secs_f64() / budget.as_secs_f64().max(f64::MIN_POSITIVE);
                on_progress(rounds.min(spent).max(rounds / f64::from(MAX_ROUNDS)).min(1.0));
            }
        }
        on_progress(1.0);
        let medians = blocks.iter_mut().map(|blocks| median(blocks).as_secs_f64() * 1e3);
        Self::new(sizes.iter().zip(medians).map(|(&tokens, ms)| CostPoint { tokens, ms }).collect())
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

    /// How many of the leading nodes of a draft tree to run, for the most expected tokens per time; the fewest where
    /// that is a tie. `probabilities` are the path probabilities of the nodes: of the root, which is 1, then of the
    /// drafts, the likeliest first. At least 1, unless there is not even a root.
    pub fn best_prefix(&self, probabilities: &[f32]) -> usize {
        let Some((&root, drafts)) = probabilities.split_first() else { return 0 };
        1 + self.best_addition(1, root.into(), drafts.iter().copied())
    }

    /// How many of the leading `drafts`, by their path probabilities, to add to a pass that runs `nodes` nodes already and
    /// yields `tokens` expected tokens by them, for the most expected tokens per time; the fewest where that is a tie.
    pub fn best_addition(&self, nodes: usize, mut tokens: f64, drafts: impl Iterator<Item = f32>) -> usize {
        let (mut best, mut best_rate) = (0, tokens / self.ms(nodes));
        for (added, probability) in (1..).zip(drafts) {
            tokens += f64::from(probability);
            let rate = tokens / self.ms(nodes + added);
            if rate > best_rate {
                (best, best_rate) = (added, rate);
            }
        }
        best
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

/// A model behind a context, ready for passes to be timed.
struct Bench<'a, M: LanguageModel> {
    model: &'a mut M,
    cache: M::Cache,
    /// What passes run over: the first of these.
    tokens: Vec<TokenId>,
    logits: Logits,
}

impl<'a, M: LanguageModel> Bench<'a, M> {
    fn new(model: &'a mut M, context: usize, largest: usize) -> Result<Self, ForwardError> {
        // Any tokens do: the time of a pass does not depend on what they say.
        let vocabulary_size = model.vocabulary_size().max(1);
        let tokens =
            (0..context.max(largest)).map(|index| (index * 31 % vocabulary_size) as TokenId).collect();
        let cache = model.new_cache(context + largest);
        let mut bench = Self { model, cache, tokens, logits: Logits::default() };
        while bench.cache.len() < context {
            let chunk = PREFILL_CHUNK.min(context - bench.cache.len());
            let nodes: Vec<u32> = (0..chunk as u32).collect();
            bench.forward(chunk, LogitsOf::Nothing)?;
            bench.model.commit(&mut [Accepted { cache: &mut bench.cache, path: &nodes }]);
        }
        Ok(bench)
    }

    fn forward(&mut self, tokens: usize, logits_of: LogitsOf) -> Result<(), ForwardError> {
        let tree = TokenTree::chain(&self.tokens[..tokens]).expect("a pass has tokens");
        // As greedy decoding does.
        let step = SequenceStep { tree: &tree, cache: &mut self.cache, logits_of, keep: Keep::Best(1) };
        self.model.forward(&mut [step], &mut self.logits)
    }

    /// The time of a pass as a decode step makes it.
    fn time(&mut self, tokens: usize) -> Result<Duration, ForwardError> {
        let began = Instant::now();
        self.forward(tokens, LogitsOf::Every)?;
        // A clock may be too coarse to see the pass of a toy model, but no pass is free.
        Ok(began.elapsed().max(Duration::from_nanos(1)))
    }

    /// The median of the last half of passes that follow each other for the time `block`.
    fn time_block(&mut self, tokens: usize, block: Duration) -> Result<Duration, ForwardError> {
        let began = Instant::now();
        let mut times = Vec::with_capacity(MAX_PASSES);
        while times.len() < MIN_PASSES || (times.len() < MAX_PASSES && began.elapsed() < block) {
            times.push(self.time(tokens)?);
        }
        let settled = times.len() / 2;
        Ok(median(&mut times[settled..]))
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(points: &[(usize, f64)]) -> CostCurve {
        CostCurve::new(points.iter().map(|&(tokens, ms)| CostPoint { tokens, ms }).collect()).unwrap()
    }

    /// A root and drafts.
    fn drafts(probability: f32, count: usize) -> Vec<f32> {
        [&[1.0][..], &vec![probability; count]].concat()
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
    fn a_flat_curve_drafts_everything_and_a_proportional_one_nothing() {
        let flat = curve(&[(1, 3.0), (64, 3.0)]);
        let proportional = curve(&[(1, 3.0), (2, 6.0)]);
        for probability in [0.01, 0.5, 0.99] {
            assert_eq!(flat.best_prefix(&drafts(probability, 20)), 21);
            assert_eq!(proportional.best_prefix(&drafts(probability, 20)), 1);
        }
        assert_eq!(proportional.best_prefix(&drafts(1.0, 5)), 1, "a tie goes to the smaller tree");
        assert_eq!(flat.best_prefix(&drafts(0.0, 5)), 1, "what is never accepted is not worth a node");
        assert_eq!(flat.best_prefix(&[]), 0);
    }

    #[test]
    fn a_step_is_taken_where_the_nodes_behind_it_pay_for_it() {
        // Tiles of four tokens: the fifth token costs as much as the fifth to the eighth together.
        let steps = curve(&[(1, 1.0), (4, 1.0), (5, 1.8), (8, 1.8), (9, 2.6)]);
        // At 0.4, four nodes yield 2.2 tokens in 1, eight 3.8 in 1.8: less. At 0.6, 2.8 in 1 and 5.2 in 1.8: more.
        assert_eq!(steps.best_prefix(&drafts(0.4, 7)), 4);
        assert_eq!(steps.best_prefix(&drafts(0.6, 7)), 8);
        assert_eq!(steps.best_prefix(&drafts(0.9, 7)), 8);
        assert_eq!(steps.best_prefix(&drafts(0.9, 5)), 4, "two nodes do not fill the second tile");
        assert_eq!(steps.best_prefix(&drafts(0.9, 2)), 3);
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
        fn no_other_prefix_is_better(
            steps in prop::collection::vec((1usize..6, 0.01f64..10.0), 1..10),
            mut probabilities in prop::collection::vec(0.0f32..=1.0, 0..40),
        ) {
            let mut tokens = 0;
            let points = steps.into_iter().map(|(step, ms)| {
                tokens += step;
                (tokens, ms)
            });
            let curve = curve(&points.collect::<Vec<_>>());
            probabilities.sort_by(|a, b| b.total_cmp(a));
            probabilities.insert(0, 1.0);
            let rate = |nodes: usize| {
                probabilities[..nodes].iter().map(|&p| f64::from(p)).sum::<f64>() / curve.ms(nodes)
            };
            let best = curve.best_prefix(&probabilities);
            for nodes in 1..=probabilities.len() {
                let is_worse = rate(nodes) < rate(best);
                prop_assert!(is_worse || (nodes >= best && rate(nodes) == rate(best)), "{} and {}", nodes, best);
            }
        }

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
