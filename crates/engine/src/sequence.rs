//! One sequence in generation: its tokens, its KV cache, its drafter, and when it ends.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lookahead_model::{Cache, Candidate, Keep, Logits, LogitsOf, TokenId, TokenTree};
use lookahead_trie::{CostCurve, DraftOrigin};

use crate::constrained::{Constrained, MaskBudget, SLOW};
use crate::drafter::{Draft, DraftLimits, Drafter};
use crate::masks::MaskThreads;
use crate::sampling::most_likely;
use crate::{
    Constraint, EngineError, FinishReason, Generation, GenerationStats, LogitsTrace, Sampler, SamplingParams,
    TokenLogprobs, Verified, verify,
};

/// What to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerationRequest {
    /// The tokens to continue; not empty. Several answers to one prompt share it while they wait.
    pub prompt: Arc<[TokenId]>,
    /// The most tokens to produce. The model's context may end the answer sooner.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Tokens that end the answer. The one that does is part of the answer's tokens.
    pub end_tokens: Vec<TokenId>,
    /// Whether to record a [`LogitsTrace`].
    pub trace_logits: bool,
    /// How many of the most likely tokens to record for each token of the answer: [`Generation::runners_up`]. 0 for none.
    pub runners_up: usize,
    /// How many of the most likely tokens to report with each token, beside its own log probability; `None` for neither.
    pub logprobs: Option<usize>,
    /// Ends the generation before its next forward pass once it is true.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl GenerationRequest {
    /// Whether its user has given up on it.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// A token of the answer, as it is handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedToken {
    /// The token.
    pub id: TokenId,
    /// Its index in the sequence, prompt included.
    pub position: usize,
    /// What it was taken from, if it was drafted and accepted; `None` for a token that the model produced by itself, one
    /// each forward pass.
    pub origin: Option<DraftOrigin>,
    /// Log probabilities, if the request asked for them.
    pub logprobs: Option<TokenLogprobs>,
}

impl GeneratedToken {
    /// Whether it was drafted and accepted.
    pub fn is_drafted(&self) -> bool {
        self.origin.is_some()
    }
}

/// A sequence in generation. Made by [`Engine::start`](crate::Engine::start), advanced by
/// [`Engine::step`](crate::Engine::step).
///
/// Between steps the cache holds every token but the last one, which is the root of the next draft tree.
pub struct Sequence<C> {
    pub(crate) cache: C,
    /// Prompt and answer.
    tokens: Vec<TokenId>,
    prompt_tokens: usize,
    /// The length at which the sequence ends.
    max_len: usize,
    end_tokens: Vec<TokenId>,
    sampler: Sampler,
    drafter: Box<dyn Drafter>,
    constraint: Option<Constrained>,
    logprobs: Option<usize>,
    cancel: Option<Arc<AtomicBool>>,
    trace: Option<LogitsTrace>,
    /// How many to record of each position, and those recorded.
    runners_up_per_token: usize,
    runners_up: Vec<Vec<TokenId>>,
    stats: GenerationStats,
    finish: Option<Result<FinishReason, EngineError>>,
}

/// What a sequence asks of one forward pass.
pub(crate) struct Pass {
    pub(crate) draft: Draft,
    pub(crate) logits_of: LogitsOf,
}

impl Pass {
    /// A pass over a part of the prompt.
    fn prefill(tokens: &[TokenId], logits_of: LogitsOf) -> Self {
        Self { draft: TokenTree::chain(tokens).expect("a chunk is not empty").into(), logits_of }
    }

    pub(crate) fn tree(&self) -> &TokenTree {
        self.draft.tree()
    }

    /// Whether it is a decode step.
    pub(crate) fn is_decode(&self) -> bool {
        self.logits_of == LogitsOf::Every
    }

    /// The node at which choosing starts. It and all after it have a row of logits, in node order.
    fn root(&self) -> usize {
        match self.logits_of {
            LogitsOf::Nothing => self.tree().len(),
            LogitsOf::Last => self.tree().len() - 1,
            LogitsOf::Every => 0,
        }
    }

    /// The nodes that the sequence takes over: those that are given, and those that chose the `produced` tokens. If an end
    /// token or a stop string cut the path short, the nodes behind it go as if they had been wrong.
    pub(crate) fn committed(&self, verified: &Verified, produced: usize) -> Vec<u32> {
        (0..self.root() as u32).chain(verified.path[..produced].iter().copied()).collect()
    }

    /// Takes the pass's rows off the front of those in `logits` that start at `next_row`.
    pub(crate) fn take_rows<'a>(&self, logits: &'a Logits, next_row: &mut usize) -> NodeLogits<'a> {
        let rows = NodeLogits { logits, first_row: *next_row, root: self.root() };
        *next_row += self.tree().len() - self.root();
        rows
    }
}

/// The rows of logits of one pass.
pub(crate) struct NodeLogits<'a> {
    logits: &'a Logits,
    first_row: usize,
    root: usize,
}

impl NodeLogits<'_> {
    /// The whole row of `node`.
    fn of(&self, node: usize) -> &[f32] {
        self.logits.row(self.row(node))
    }

    /// The likeliest tokens of `node`; `None` if its whole row was kept.
    fn best(&self, node: usize) -> Option<&[Candidate]> {
        self.logits.best(self.row(node))
    }

    /// The token that `sampler` chooses at `node`, after the tokens `history`, among those that are `allowed`.
    fn choose(
        &self,
        node: usize,
        sampler: &mut Sampler,
        history: &[TokenId],
        allowed: Option<&[u32]>,
    ) -> TokenId {
        let position = history.len() as u64;
        match self.best(node) {
            Some(best) => sampler.choose_among(best, history, position),
            None => sampler.choose_allowed(self.of(node), history, position, allowed),
        }
    }

    /// The `count` most likely tokens at `node`, the likeliest first; fewer where logits are NaN.
    fn most_likely(&self, node: usize, count: usize) -> Vec<TokenId> {
        if let Some(best) = self.best(node) {
            let known = best.iter().filter(|candidate| **candidate != Candidate::NONE);
            return known.take(count).map(|candidate| candidate.token).collect();
        }
        most_likely(self.of(node), count).into_iter().map(|candidate| candidate.token).collect()
    }

    fn row(&self, node: usize) -> usize {
        self.first_row + node - self.root
    }
}

impl<C: Cache> Sequence<C> {
    /// A sequence of which the cache holds a beginning of the prompt, if anything. `max_len` is at least the prompt's
    /// length.
    pub(crate) fn new(
        request: GenerationRequest,
        sampler: Sampler,
        mut drafter: Box<dyn Drafter>,
        cache: C,
        max_len: usize,
    ) -> Self {
        let began = Instant::now();
        drafter.begin(&request.prompt);
        let stats = GenerationStats {
            prompt_tokens: request.prompt.len(),
            cached_tokens: cache.len(),
            insert: began.elapsed(),
            ..GenerationStats::default()
        };
        Self {
            cache,
            prompt_tokens: request.prompt.len(),
            max_len,
            end_tokens: request.end_tokens,
            sampler,
            drafter,
            constraint: None,
            logprobs: request.logprobs,
            cancel: request.cancel,
            trace: request.trace_logits.then(LogitsTrace::new),
            runners_up_per_token: request.runners_up,
            runners_up: Vec::new(),
            stats,
            finish: (request.prompt.len() >= max_len).then_some(Ok(FinishReason::Length)),
            tokens: request.prompt.to_vec(),
        }
    }

    /// Limits what the answer may say. To be set before the first step.
    #[must_use]
    pub fn constrained(self, constraint: Option<Box<dyn Constraint>>) -> Self {
        Self { constraint: constraint.map(Constrained::new), ..self }
    }

    /// Prompt and answer so far.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The answer so far.
    pub fn completion(&self) -> &[TokenId] {
        &self.tokens[self.prompt_tokens..]
    }

    /// Why the generation ended; `None` while it goes on, and if it failed.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish.as_ref().and_then(|finish| finish.as_ref().ok().copied())
    }

    /// Whether the generation has ended or failed.
    pub fn has_ended(&self) -> bool {
        self.finish.is_some()
    }

    /// The numbers so far.
    pub fn stats(&self) -> &GenerationStats {
        &self.stats
    }

    /// The fingerprint of the logits, if the request asked for it.
    pub fn logits_trace(&self) -> Option<&LogitsTrace> {
        self.trace.as_ref()
    }

    /// What `pass` needs to keep of this sequence's rows of logits.
    pub(crate) fn keep_of_logits(&self, pass: &Pass, vocabulary_size: usize) -> Keep {
        if self.trace.is_some() || self.constraint.is_some() || self.logprobs.is_some() {
            return Keep::Row;
        }
        match self.sampler.keep(vocabulary_size, self.tokens.len() + pass.tree().len()) {
            Keep::Best(ranks) => {
                Keep::Best(ranks.max(self.runners_up_per_token).max(self.drafter.runners_up()))
            }
            Keep::Row => Keep::Row,
        }
    }

    /// Tokens that are still to be run before the next decode step: of the prompt, and of the answer if the cache was
    /// taken away.
    pub(crate) fn prefill_left(&self) -> usize {
        self.prefill_end() - self.cache.len().min(self.prefill_end())
    }

    /// Where the prefill ends. The answer's last token is the root of the next draft tree.
    fn prefill_end(&self) -> usize {
        self.prompt_tokens.max(self.tokens.len() - 1)
    }

    /// Takes the cache away; `empty` is one in its place. The sequence computes again what it held.
    pub(crate) fn replace_cache(&mut self, empty: C) -> C {
        std::mem::replace(&mut self.cache, empty)
    }

    /// The most tokens that it may come to have.
    pub(crate) fn max_len(&self) -> usize {
        self.max_len
    }

    /// Whether it decodes plainly: each of its steps is a pass over one token.
    pub(crate) fn is_plain(&self) -> bool {
        self.drafter.is_plain()
    }

    /// What drafts are cut by; see [`Drafter::cost`].
    pub(crate) fn cost(&self) -> Option<&CostCurve> {
        self.drafter.cost()
    }

    /// Ends the sequence, if it has not ended.
    pub(crate) fn end(&mut self, reason: FinishReason) {
        self.finish.get_or_insert(Ok(reason));
    }

    /// Whether its user has given up on it.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Whether it goes on.
    pub(crate) fn is_active(&self) -> bool {
        !self.has_ended() && !self.is_cancelled()
    }

    /// Whether its answer has a constraint.
    pub(crate) fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// Whether a pass as long as `pass` would wait for its mask.
    pub(crate) fn is_late(&self, pass: Duration) -> bool {
        self.is_active()
            && self.prefill_left() == 0
            && self.constraint.as_ref().is_some_and(|constraint| constraint.is_late(pass.max(SLOW)))
    }

    /// Has the mask of its next token computed beside what comes next.
    pub(crate) fn begin_mask(&mut self, threads: &mut MaskThreads) {
        if let Some(constraint) = self.constraint.as_mut().filter(|_| self.finish.is_none()) {
            constraint.begin(&self.tokens[self.prompt_tokens..], threads);
        }
    }

    /// What to run next: of the prefill up to `rows` tokens, or a draft tree of up to `rows` nodes, the root counted. `None`
    /// once the sequence has ended, or if it may run nothing.
    pub(crate) fn draft(&mut self, rows: usize, vocabulary_size: usize, budget: MaskBudget) -> Option<Pass> {
        if self.is_cancelled() {
            self.end(FinishReason::Cancelled);
        }
        if self.finish.is_some() || rows == 0 {
            return None;
        }
        let (cached, prefill_end) = (self.cache.len(), self.prefill_end());
        if cached < prefill_end {
            let end = prefill_end.min(cached.saturating_add(rows));
            let chooses = end == prefill_end && prefill_end == self.tokens.len();
            let logits_of = if chooses { LogitsOf::Last } else { LogitsOf::Nothing };
            return Some(Pass::prefill(&self.tokens[cached..end], logits_of));
        }
        Some(Pass { draft: self.draft_tree(rows - 1, vocabulary_size, budget), logits_of: LogitsOf::Every })
    }

    /// The draft tree of the next step, cut to so many `nodes` beside the root, to what fits into the cache, to tokens that
    /// can still be produced, and to what the constraint allows.
    fn draft_tree(&mut self, nodes: usize, vocabulary_size: usize, budget: MaskBudget) -> Draft {
        let limits = DraftLimits {
            nodes: self.cache.capacity().saturating_sub(self.cache.len() + 1).min(nodes),
            depth: self.max_len - self.tokens.len() - 1, // one token more comes free
        };
        if limits.depth == 0 {
            return Draft::root(&self.tokens);
        }
        let began = Instant::now();
        let mut draft = self.drafter.draft(&self.tokens, limits);
        if draft.tree().tokens()[0] != self.tokens[self.tokens.len() - 1] {
            draft = Draft::root(&self.tokens);
        }
        let is_known = |tree: &TokenTree, node: usize| (tree.tokens()[node] as usize) < vocabulary_size;
        let draft = match &mut self.constraint {
            Some(constraint) if !self.drafter.is_plain() => {
                constraint.cut(draft, limits, &self.tokens[self.prompt_tokens..], budget, is_known)
            }
            _ => draft.cut(limits, is_known),
        };
        self.stats.retrieval += began.elapsed();
        draft
    }

    /// The path that the model would have produced, and its tokens; both empty while the prompt is not
    /// through, if the constraint fails, and if its mask is late. The path ends early where the time for masks does.
    pub(crate) fn verify(&mut self, pass: &Pass, rows: &NodeLogits<'_>, budget: MaskBudget) -> Verified {
        if pass.logits_of == LogitsOf::Nothing {
            return Verified { path: Vec::new(), tokens: Vec::new() };
        }
        let began = Instant::now();
        let (prompt_tokens, constraint, sampler) =
            (self.prompt_tokens, &mut self.constraint, &mut self.sampler);
        let (finish, mut until) = (&mut self.finish, None);
        let choose = |node, history: &[TokenId]| {
            let completion = &history[prompt_tokens..];
            let allowed = match (constraint.as_mut(), until) {
                (None, _) => None,
                (Some(constraint), Some(until)) => Some(constraint.allowed_until(completion, until, budget)?),
                // The token behind the root is the one that plain decoding asks for, too: here alone a failure counts.
                (Some(constraint), None) => {
                    let allowed = constraint.allowed(completion, budget)?;
                    until = Some(budget.until());
                    Some(allowed.map_err(|error| *finish = Some(Err(error.into()))).ok()?)
                }
            };
            Some(rows.choose(node, sampler, history, allowed))
        };
        let verified = verify(pass.tree(), pass.root(), choose, &mut self.tokens);
        if pass.is_decode() {
            self.stats.verify += began.elapsed();
        }
        verified
    }

    /// Hands out the verified tokens until one of them ends the sequence, and returns how many were.
    pub(crate) fn emit(
        &mut self,
        pass: &Pass,
        verified: &Verified,
        rows: &NodeLogits<'_>,
        mut on_token: impl FnMut(GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> usize {
        for (index, &id) in verified.tokens.iter().enumerate() {
            let position = self.tokens.len();
            self.tokens.push(id);
            // The node that carries a drafted token is the next one of the path.
            let origin = verified.path.get(index + 1).map(|&node| pass.draft.origins()[node as usize]);
            let row = || rows.of(verified.path[index] as usize);
            let logprobs = self.logprobs.map(|count| TokenLogprobs::of(row(), id, count));
            let wish = on_token(GeneratedToken { id, position, origin, logprobs });
            let finish = if self.end_tokens.contains(&id) {
                Some(FinishReason::Stop)
            } else if let ControlFlow::Break(reason) = wish {
                Some(reason)
            } else {
                (self.tokens.len() >= self.max_len).then_some(FinishReason::Length)
            };
            self.finish = finish.map(Ok);
            if self.finish.is_some() {
                return index + 1;
            }
        }
        verified.tokens.len()
    }

    /// Records the logits that chose the `produced` tokens, and teaches the drafter.
    pub(crate) fn learn(&mut self, pass: &Pass, verified: &Verified, produced: usize, rows: &NodeLogits<'_>) {
        let path = &verified.path[..produced];
        if let Some(trace) = &mut self.trace {
            for &node in path {
                trace.push(rows.of(node as usize));
            }
        }
        if self.runners_up_per_token > 0 {
            let best = path.iter().map(|&node| rows.most_likely(node as usize, self.runners_up_per_token));
            self.runners_up.extend(best);
        }
        let began = Instant::now();
        self.observe(pass, produced, rows);
        self.drafter.accept(&verified.tokens[..produced]);
        self.stats.insert += began.elapsed();
    }

    /// Tells the drafter what the model held likely at each node of the pass, if that was kept. The `produced` tokens are
    /// the sequence's last.
    fn observe(&mut self, pass: &Pass, produced: usize, rows: &NodeLogits<'_>) {
        if self.drafter.runners_up() == 0 {
            return;
        }
        let Some(before_root) = self.tokens.len().checked_sub(produced + 2) else { return };
        let tree = pass.tree();
        for node in pass.root()..tree.len() {
            let Some(likeliest) = rows.best(node) else { return };
            let (tokens, parent) = (tree.tokens(), tree.parents()[node] as usize);
            let before = if node == pass.root() { self.tokens[before_root] } else { tokens[parent] };
            self.drafter.observe(&[before, tokens[node]], likeliest);
        }
    }

    /// Counts a pass that took `whole`, `forward` of it in the model.
    pub(crate) fn count(
        &mut self,
        pass: &Pass,
        verified: &Verified,
        produced: usize,
        forward: Duration,
        whole: Duration,
    ) {
        self.stats.completion_tokens += produced;
        if pass.is_decode() {
            self.stats.decode_tokens += produced;
            let origins = pass.draft.origins();
            let accepted = verified.path.iter().skip(1).take(produced);
            self.stats.draft_lengths.add(origins.len() - 1);
            self.stats.accepted_lengths.add(accepted.len());
            for &origin in &origins[1..] {
                self.stats.drafted_by_origin.add(origin);
            }
            for &node in accepted {
                self.stats.accepted_by_origin.add(origins[node as usize]);
            }
            self.stats.forward += forward;
            self.stats.decode += whole;
        } else {
            self.stats.prefill_passes += 1;
            self.stats.prefill += whole;
        }
    }

    /// The result, whether the sequence has ended or is given up now.
    ///
    /// # Errors
    /// If its constraint failed.
    pub fn into_generation(mut self) -> Result<Generation, EngineError> {
        Ok(Generation {
            finish_reason: self.finish.unwrap_or(Ok(FinishReason::Cancelled))?,
            token_ids: self.tokens.split_off(self.prompt_tokens),
            stats: self.stats,
            logits_trace: self.trace,
            runners_up: self.runners_up,
        })
    }
}

impl<C: fmt::Debug> fmt::Debug for Sequence<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequence")
            .field("tokens", &self.tokens)
            .field("cache", &self.cache)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}
