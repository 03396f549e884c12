//! The decode loop.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use lookahead_model::{Accepted, Cache, ForwardError, LanguageModel, Logits, SequenceStep};
use lookahead_trie::{Bid, CostCurve, PassCost, PassLoad};

use crate::constrained::MaskBudget;
use crate::drafter::{Draft, Drafter};
use crate::learnt_costs::LearntCosts;
use crate::masks::MaskThreads;
use crate::sequence::{NodeLogits, Pass};
use crate::{EngineError, FinishReason, GeneratedToken, GenerationRequest, Sampler, Sequence, Verified};

/// Rows of a cache beyond the sequence's own tokens, so that draft trees of fewer nodes need not shrink in its
/// last steps.
const DRAFT_ROWS: usize = 64;

/// How the engine cuts its work. No token and no bit of a logit depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens of prompts in one forward pass, of all its sequences together, at least 1. A larger chunk is faster, takes
    /// more memory, and makes sequences that decode beside it wait longer.
    pub prefill_chunk: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { prefill_chunk: 256 }
    }
}

/// What a forward pass was about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassReport {
    /// Sequences that took part.
    pub sequences: usize,
    /// Tokens that were run: of prompts, and nodes of draft trees.
    pub tokens: usize,
    /// Of those, the ones of prefills.
    pub prefill_tokens: usize,
    /// Positions of the contexts of its sequences: of each, as many as were in the KV cache.
    pub contexts: usize,
    /// Positions of the contexts that its tokens attended to.
    pub positions: usize,
    /// Time in the model.
    pub forward: Duration,
}

/// Generates with a model: draft, forward, verify, emit, commit, learn.
pub struct Engine<M: LanguageModel> {
    model: M,
    options: EngineOptions,
    logits: Logits,
    masks: MaskThreads,
    costs: LearntCosts,
    /// Time of the last forward pass.
    last_pass: Duration,
    /// Time of a pass over prompts, at most.
    longest_pass: Option<Duration>,
    /// Tokens of prompts that such a pass has time for.
    chunk_in_time: usize,
}

impl<M: LanguageModel> Engine<M> {
    /// An engine around `model`.
    pub fn new(model: M, options: EngineOptions) -> Self {
        let (logits, masks, costs) = (Logits::default(), MaskThreads::default(), LearntCosts::default());
        let (last_pass, longest_pass, chunk_in_time) = (Duration::ZERO, None, usize::MAX);
        Self { model, options, logits, masks, costs, last_pass, longest_pass, chunk_in_time }
    }

    /// Has prompts computed in pieces that take about so long, as far as some tokens at a time do: whoever comes meanwhile waits for
    /// one of them. Behind long contexts a whole chunk may take a second.
    pub fn bound_passes(&mut self, longest: Duration) {
        self.longest_pass = Some(longest);
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, to change its settings (its threads, say) between generations.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// One step for every sequence that has not ended: a chunk of its prompt, or a decode step with a draft
    /// tree.
    ///
    /// All trees run in one forward pass. Each token is handed to `on_token`, with the index of its sequence,
    /// as soon as it is verified; to break there ends that sequence with this token, even in the middle of an
    /// accepted path. A sequence whose next mask takes longer than a pass sits out while others run.
    ///
    /// # Errors
    /// If the forward pass is refused. No sequence has advanced then.
    pub fn step(
        &mut self,
        sequences: &mut [Sequence<M::Cache>],
        on_token: impl FnMut(usize, GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> Result<PassReport, EngineError> {
        let rows = self.unshared_rows(sequences);
        self.step_within(sequences, &rows, on_token)
    }

    /// As [`step`](Self::step), where each sequence may run so many `rows`: tokens of its prompt, or nodes of its draft tree.
    /// One that may run none sits out.
    pub(crate) fn step_within(
        &mut self,
        sequences: &mut [Sequence<M::Cache>],
        rows: &[usize],
        mut on_token: impl FnMut(usize, GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> Result<PassReport, EngineError> {
        let began = Instant::now();
        let budget = mask_budget(sequences, self.last_pass);
        let passes = self.draft(sequences, rows, budget);
        let load = load_of(sequences, &passes);
        let forward = self.forward(sequences, &passes)?;
        self.last_pass = forward;
        if let Some(curve) = sequences.iter().find_map(Sequence::cost) {
            self.costs.observe(curve, load, forward);
        }

        let mut next_row = 0;
        let mut outcomes = Vec::with_capacity(passes.len());
        for (index, (sequence, pass)) in sequences.iter_mut().zip(&passes).enumerate() {
            outcomes.push(pass.as_ref().map(|pass| {
                let rows = pass.take_rows(&self.logits, &mut next_row);
                let verified = sequence.verify(pass, &rows, budget);
                let produced = sequence.emit(pass, &verified, &rows, |token| on_token(index, token));
                let path = pass.committed(&verified, produced);
                Outcome { pass, rows, verified, produced, path }
            }));
        }
        commit(&mut self.model, sequences, &outcomes);
        for (sequence, outcome) in sequences.iter_mut().zip(&outcomes) {
            let Some(Outcome { pass, rows, verified, produced, .. }) = outcome else { continue };
            sequence.learn(pass, verified, *produced, rows);
            sequence.begin_mask(&mut self.masks);
            sequence.count(pass, verified, *produced, forward, began.elapsed());
        }
        let of = |pass: &Pass| pass.tree().len();
        let passes = || passes.iter().flatten();
        let report = PassReport {
            sequences: passes().count(),
            tokens: load.nodes,
            prefill_tokens: passes().filter(|pass| !pass.is_decode()).map(of).sum(),
            contexts: load.contexts,
            positions: load.positions,
            forward,
        };
        if let Some(longest) = self.longest_pass.filter(|_| report.prefill_tokens > 0) {
            self.chunk_in_time = tokens_within(longest, &report);
        }
        Ok(report)
    }

    /// The rows of a pass in which prompts share the prefill chunk and drafts are as large as pays.
    pub(crate) fn unshared_rows(&self, sequences: &[Sequence<M::Cache>]) -> Vec<usize> {
        let lacks = |sequence: &Sequence<_>| {
            if sequence.finish_reason().is_some() { 0 } else { sequence.prefill_left() }
        };
        let prompts = share_chunk(self.prefill_chunk(), &sequences.iter().map(lacks).collect::<Vec<_>>());
        let rows = sequences.iter().zip(prompts);
        rows.map(|(sequence, prompt)| if sequence.prefill_left() == 0 { usize::MAX } else { prompt })
            .collect()
    }

    /// Tokens of prompts in one pass.
    pub(crate) fn prefill_chunk(&self) -> usize {
        self.options.prefill_chunk.min(self.chunk_in_time).min(self.model.pass_nodes()).max(1)
    }

    /// What passes have cost lately, where `curve` is what was measured.
    pub(crate) fn pass_cost<'a>(&self, curve: &'a CostCurve) -> PassCost<'a> {
        self.costs.over(curve)
    }

    /// Forgets what the last pass has left. The next one needs nothing of it.
    pub(crate) fn forget_pass(&mut self) {
        self.logits = Logits::default();
    }

    /// What each sequence asks of the next pass, of so many `rows` at most; drafts share what pays.
    fn draft(
        &self,
        sequences: &mut [Sequence<M::Cache>],
        rows: &[usize],
        budget: MaskBudget,
    ) -> Vec<Option<Pass>> {
        let vocabulary_size = self.model.vocabulary_size();
        let is_ready = |sequence: &Sequence<_>| !sequence.is_late(self.last_pass);
        let is_any_ready = sequences.iter().any(|sequence| sequence.is_active() && is_ready(sequence));
        // Where all masks are late the oldest sequence waits for its own beside a pass.
        let mut may_wait = !is_any_ready;
        // However many draft, they fit into a pass together.
        let active = sequences.iter().filter(|sequence| sequence.is_active()).count();
        let most_nodes = (self.model.pass_nodes() / active.max(1)).max(1);
        let draft = |(sequence, &rows): (&mut Sequence<_>, &usize)| {
            let runs = is_ready(sequence) || std::mem::take(&mut may_wait);
            let rows = if sequence.prefill_left() == 0 { rows.min(most_nodes) } else { rows };
            if runs { sequence.draft(rows, vocabulary_size, budget) } else { None }
        };
        let mut passes: Vec<Option<Pass>> = sequences.iter_mut().zip(rows).map(draft).collect();
        if let Some(curve) = sequences.iter().find_map(Sequence::cost) {
            // One alone drafts by the curve, which was measured of one: so its drafts do not depend on the clock.
            let is_alone = passes.iter().flatten().count() == 1;
            let cost = if is_alone { PassCost::from(curve) } else { self.costs.over(curve) };
            share_nodes(&cost, sequences, &mut passes);
        }
        for (sequence, pass) in sequences.iter_mut().zip(&mut passes) {
            let Some(pass) = pass else { continue };
            // Where memory is short, what is certain to be of use comes first.
            if pass.is_decode() && sequence.cache.reserve(0, pass.tree().len()).is_err() {
                pass.draft.truncate(1);
            }
        }
        passes
    }

    /// Runs all passes as one and returns the time it took.
    fn forward(
        &mut self,
        sequences: &mut [Sequence<M::Cache>],
        passes: &[Option<Pass>],
    ) -> Result<Duration, ForwardError> {
        let began = Instant::now();
        let mut batch = Vec::with_capacity(passes.len());
        for (sequence, pass) in sequences.iter_mut().zip(passes) {
            if let Some(pass) = pass {
                let (tree, logits_of) = (pass.tree(), pass.logits_of);
                let keep = sequence.keep_of_logits(pass, self.model.vocabulary_size());
                batch.push(SequenceStep { tree, cache: &mut sequence.cache, logits_of, keep });
            }
        }
        if !batch.is_empty() {
            self.model.forward(&mut batch, &mut self.logits)?;
        }
        Ok(began.elapsed())
    }

    /// Makes a sequence out of a request; `drafter` belongs to it alone.
    ///
    /// # Errors
    /// If the prompt is empty, too long for the model's context or has unknown tokens, or a sampling
    /// parameter is out of range.
    pub fn start(
        &self,
        request: GenerationRequest,
        drafter: Box<dyn Drafter>,
    ) -> Result<Sequence<M::Cache>, EngineError> {
        self.start_behind(request, drafter, None)
    }

    /// As [`start`](Self::start), with what `prefix` holds of the prompt: another sequence's cache and how many of its
    /// tokens are the prompt's first. At least the prompt's last token is computed anew, as it chooses the next.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_behind(
        &self,
        request: GenerationRequest,
        drafter: Box<dyn Drafter>,
        prefix: Option<(&M::Cache, usize)>,
    ) -> Result<Sequence<M::Cache>, EngineError> {
        self.check(&request)?;
        let sampler = Sampler::new(request.sampling.clone())?;
        let prompt_tokens = request.prompt.len();
        let max_len = prompt_tokens.saturating_add(request.max_tokens).min(self.context_length());
        let capacity = max_len + DRAFT_ROWS;
        let cache = match prefix {
            Some((cache, len)) => cache.fork(len.min(prompt_tokens - 1), capacity),
            None => self.model.new_cache(capacity),
        };
        Ok(Sequence::new(request, sampler, drafter, cache, max_len))
    }

    /// Whether `request` can be started.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn check(&self, request: &GenerationRequest) -> Result<(), EngineError> {
        let (prompt_tokens, context_length) = (request.prompt.len(), self.context_length());
        let vocabulary_size = self.model.vocabulary_size();
        if request.prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if prompt_tokens >= context_length {
            return Err(EngineError::PromptTooLong { prompt_tokens, context_length });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocabulary_size) {
            return Err(ForwardError::UnknownToken { token, vocabulary_size }.into());
        }
        Ok(request.sampling.validate()?)
    }

    /// The most tokens of a sequence: those of the model's context, or what there is memory for.
    pub fn context_length(&self) -> usize {
        self.model.context_length().min(self.model.cache_memory().sequence_tokens(DRAFT_ROWS))
    }

    /// Bytes that caches must be able to take, so that the shortest sequence runs.
    pub fn least_cache_bytes(&self) -> usize {
        self.model.cache_memory().least_bytes(DRAFT_ROWS)
    }

    /// Takes a sequence's cache away, to make room for others, and returns it. The sequence computes again what it held
    /// when it is stepped.
    pub(crate) fn take_cache(&self, sequence: &mut Sequence<M::Cache>) -> M::Cache {
        sequence.replace_cache(self.model.new_cache(sequence.max_len() + DRAFT_ROWS))
    }
}

/// Tokens that a pass as the last one runs in that time; no fewer than make good use of a pass.
fn tokens_within(time: Duration, last: &PassReport) -> usize {
    const FEWEST: usize = 32;
    let of_one = last.forward.as_secs_f64() / last.tokens.max(1) as f64;
    ((time.as_secs_f64() / of_one) as usize).max(FEWEST)
}

/// Shares `chunk` rows among prompts that lack so many, of which the older come first: the oldest has half of them, and the rest
/// goes to those that lack the least, so that a short prompt does not wait for a long one, nor a long one for ever for short ones.
fn share_chunk(chunk: usize, lacking: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lacking.len()).filter(|&index| lacking[index] > 0).collect();
    let mut rows = vec![0; lacking.len()];
    let Some(&oldest) = order.first() else { return rows };
    rows[oldest] = lacking[oldest].min(chunk.div_ceil(2));
    let mut left = chunk - rows[oldest];
    order.sort_by_key(|&index| lacking[index]); // stable: then by age
    for index in order {
        let more = (lacking[index] - rows[index]).min(left);
        rows[index] += more;
        left -= more;
    }
    rows
}

/// The time for masks that each sequence has in a step behind a pass of `last_pass`.
fn mask_budget<C: Cache>(sequences: &[Sequence<C>], last_pass: Duration) -> MaskBudget {
    let active = || sequences.iter().filter(|sequence| sequence.is_active());
    let constrained = active().filter(|sequence| sequence.is_constrained()).count();
    let ready = active().filter(|sequence| !sequence.is_late(last_pass)).count();
    MaskBudget::new(active().count(), constrained, ready)
}

/// What became of a sequence's pass.
struct Outcome<'a> {
    pass: &'a Pass,
    rows: NodeLogits<'a>,
    verified: Verified,
    /// How many of the verified tokens were handed out.
    produced: usize,
    /// The nodes that become part of the sequence.
    path: Vec<u32>,
}

/// Tells the model what each sequence takes over of its pass.
fn commit<M: LanguageModel>(
    model: &mut M,
    sequences: &mut [Sequence<M::Cache>],
    outcomes: &[Option<Outcome<'_>>],
) {
    let paths = sequences.iter_mut().zip(outcomes).filter_map(|(sequence, outcome)| {
        outcome.as_ref().map(|outcome| Accepted { cache: &mut sequence.cache, path: &outcome.path })
    });
    model.commit(&mut paths.collect::<Vec<_>>());
}

/// What a pass runs.
fn load_of<C: Cache>(sequences: &[Sequence<C>], passes: &[Option<Pass>]) -> PassLoad {
    let mut load = PassLoad::default();
    for (sequence, pass) in sequences.iter().zip(passes) {
        if let Some(pass) = pass {
            load += PassLoad::of_sequence(pass.tree().len(), sequence.cache.len());
        }
    }
    load
}

/// Cuts the drafts of those sequences that know what a pass costs to what pays together.
///
/// Prompts in the same pass do not count: their time passes whatever is drafted beside them.
fn share_nodes<C: Cache>(cost: &PassCost<'_>, sequences: &[Sequence<C>], passes: &mut [Option<Pass>]) {
    let mut others = PassLoad::default();
    let mut shared: Vec<(usize, &mut Draft)> = Vec::new();
    for (sequence, pass) in sequences.iter().zip(passes) {
        let Some(pass) = pass.as_mut().filter(|pass| pass.is_decode()) else { continue };
        if sequence.cost().is_some() {
            shared.push((sequence.cache.len(), &mut pass.draft));
        } else {
            others += PassLoad::of_sequence(pass.tree().len(), sequence.cache.len());
        }
    }
    let bids: Vec<Bid<'_>> = shared
        .iter()
        .map(|(context, draft)| Bid { context: *context, probabilities: draft.probabilities() })
        .collect();
    let sizes = cost.share(others, &bids);
    for ((_, draft), nodes) in shared.into_iter().zip(sizes) {
        draft.truncate(nodes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PassReport, share_chunk, tokens_within};

    #[test]
    fn a_pass_has_as_many_tokens_of_prompts_as_there_is_time_for() {
        let took =
            |tokens, ms| PassReport { tokens, forward: Duration::from_millis(ms), ..PassReport::default() };
        for (last, tokens) in
            [(took(256, 512), 50), (took(50, 100), 50), (took(10, 1), 1000), (took(256, 60_000), 32)]
        {
            assert_eq!(tokens_within(Duration::from_millis(100), &last), tokens, "{last:?}");
        }
        assert!(tokens_within(Duration::from_millis(100), &took(1, 0)) > 1 << 20);
    }

    #[test]
    fn short_prompts_do_not_wait_for_a_long_one_nor_it_for_ever_for_them() {
        for (lacking, rows) in [
            (&[][..], &[][..]),
            (&[0, 0], &[0, 0]),
            (&[1000], &[64]),
            (&[1000, 0, 20], &[44, 0, 20]),
            (&[1000, 50, 20], &[32, 12, 20]),
            (&[10, 1000, 20], &[10, 34, 20]),
            (&[0, 1000, 1000], &[0, 64, 0]),
            (&[60, 1000], &[60, 4]),
            (&[1, 2, 3], &[1, 2, 3]),
        ] {
            assert_eq!(share_chunk(64, lacking), rows, "{lacking:?}");
        }
        assert_eq!(share_chunk(1, &[5, 1]), [1, 0]);
    }
}
