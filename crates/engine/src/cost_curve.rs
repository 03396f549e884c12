//! The cost curve of a model, measured: what a forward pass over N tokens takes.

use std::time::{Duration, Instant};

use lookahead_model::{
    Accepted, Cache, ForwardError, Keep, LanguageModel, Logits, LogitsOf, SequenceStep, TokenId, TokenTree,
};
use lookahead_trie::{CostCurve, CostCurveError, CostPoint};

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

/// Why a cost curve cannot be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MeasureError {
    /// There is no curve over such numbers of tokens.
    #[error(transparent)]
    Curve(#[from] CostCurveError),
    /// The model refused a pass.
    #[error("forward pass: {0}")]
    Forward(#[from] ForwardError),
}

/// Measures passes over each of the numbers `tokens` (ascending) behind a context of `context` tokens, in the steady
/// state that decoding reaches: many passes of a size one after the other, of which the last count. There are as many
/// rounds over all sizes as fit into `budget`, but at least one. The context is shortened, and larger passes are left
/// out, where the model's own context has no room. `on_progress` hears, from 0 to 1, how far it has come.
///
/// # Errors
/// As [`CostCurve::new`], and if the model refuses a pass.
pub fn measure_cost_curve<M: LanguageModel>(
    model: &mut M,
    context: usize,
    tokens: &[usize],
    budget: Duration,
    mut on_progress: impl FnMut(f64),
) -> Result<CostCurve, MeasureError> {
    // What is no curve is refused before it is measured.
    CostCurve::new(tokens.iter().map(|&tokens| CostPoint { tokens, ms: 1.0 }).collect())?;
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
    Ok(CostCurve::new(sizes.iter().zip(medians).map(|(&tokens, ms)| CostPoint { tokens, ms }).collect())?)
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
