//! One sequence in generation: its tokens, its KV cache, its drafter, and when it ends.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lookahead_model::{Cache, Candidate, Keep, Logits, LogitsOf, TokenId, TokenTree};

use crate::drafter::{self, DraftLimits, Drafter};
use crate::{Generation, GenerationStats, LogitsTrace, Sampler, SamplingParams, Verified, verify};

/// What to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerationRequest {
    /// The tokens to continue; not empty.
    pub prompt: Vec<TokenId>,
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
    /// Ends the generation before its next forward pass once it is true.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` were produced, or the context is full.
    Length,
    /// The user stopped it.
    Cancelled,
}

impl FinishReason {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token of the answer, as it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratedToken {
    /// The token.
    pub id: TokenId,
    /// Its index in the sequence, prompt included.
    pub position: usize,
    /// Whether it was drafted and accepted, rather than produced one forward pass for itself.
    pub drafted: bool,
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
    cancel: Option<Arc<AtomicBool>>,
    trace: Option<LogitsTrace>,
    /// How many to record of each position, and those recorded.
    runners_up_per_token: usize,
    runners_up: Vec<Vec<TokenId>>,
    stats: GenerationStats,
    finish: Option<FinishReason>,
}

/// What a sequence asks of one forward pass.
pub(crate) struct Pass {
    pub(crate) tree: TokenTree,
    pub(crate) logits_of: LogitsOf,
}

impl Pass {
    /// The node at which choosing starts. It and all after it have a row of logits, in node order.
    fn root(&self) -> usize {
        match self.logits_of {
            LogitsOf::Nothing => self.tree.len(),
            LogitsOf::Last => self.tree.len() - 1,
            LogitsOf::Every => 0,
        }
    }

    /// Takes the pass's rows off the front of those in `logits` that start at `next_row`.
    pub(crate) fn take_rows<'a>(&self, logits: &'a Logits, next_row: &mut usize) -> NodeLogits<'a> {
        let rows = NodeLogits { logits, first_row: *next_row, root: self.root() };
        *next_row += self.tree.len() - self.root();
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

    /// The token that `sampler` chooses at `node`, after the tokens `history`.
    fn choose(&self, node: usize, sampler: &mut Sampler, history: &[TokenId]) -> TokenId {
        match self.best(node) {
            Some([best, ..]) if *best != Candidate::NONE => best.token,
            Some(_) => 0, // every logit is NaN
            None => sampler.choose(self.of(node), history, history.len() as u64),
        }
    }

    /// The `count` most likely tokens at `node`, the likeliest first; fewer where logits are NaN.
    fn most_likely(&self, node: usize, count: usize) -> Vec<TokenId> {
        if let Some(best) = self.best(node) {
            let known = best.iter().filter(|candidate| **candidate != Candidate::NONE);
            return known.take(count).map(|candidate| candidate.token).collect();
        }
        let mut all: Vec<Candidate> =
            self.of(node).iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
        all.retain(|candidate| !candidate.logit.is_nan());
        all.sort_unstable_by(Candidate::by_rank);
        all.iter().take(count).map(|candidate| candidate.token).collect()
    }

    fn row(&self, node: usize) -> usize {
        self.first_row + node - self.root
    }
}

impl<C: Cache> Sequence<C> {
    /// A sequence that has seen nothing yet. `max_len` is at least the prompt's length.
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
            cancel: request.cancel,
            trace: request.trace_logits.then(LogitsTrace::new),
            runners_up_per_token: request.runners_up,
            runners_up: Vec::new(),
            stats,
            finish: (request.prompt.len() >= max_len).then_some(FinishReason::Length),
            tokens: request.prompt,
        }
    }

    /// Prompt and answer so far.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The answer so far.
    pub fn completion(&self) -> &[TokenId] {
        &self.tokens[self.prompt_tokens..]
    }

    /// Why the generation ended; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// The numbers so far.
    pub fn stats(&self) -> &GenerationStats {
        &self.stats
    }

    /// The fingerprint of the logits, if the request asked for it.
    pub fn logits_trace(&self) -> Option<&LogitsTrace> {
        self.trace.as_ref()
    }

    /// What a pass needs to keep of this sequence's rows of logits.
    pub(crate) fn keep_of_logits(&self) -> Keep {
        let is_best_enough = self.sampler.is_argmax() && self.trace.is_none();
        let best = self.runners_up_per_token.max(self.drafter.runners_up()).max(1);
        if is_best_enough { Keep::Best(best) } else { Keep::Row }
    }

    /// What to run next: a chunk of the prompt, or a draft tree. `None` once the sequence has ended.
    pub(crate) fn draft(&mut self, prefill_chunk: usize, vocabulary_size: usize) -> Option<Pass> {
        if self.finish.is_none() && self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            self.finish = Some(FinishReason::Cancelled);
        }
        if self.finish.is_some() {
            return None;
        }
        let cached = self.cache.len();
        if cached < self.prompt_tokens {
            let end = self.prompt_tokens.min(cached + prefill_chunk);
            let tree = TokenTree::chain(&self.tokens[cached..end]).expect("a chunk is not empty");
            let is_last = end == self.prompt_tokens;
            return Some(Pass { tree, logits_of: if is_last { LogitsOf::Last } else { LogitsOf::Nothing } });
        }
        Some(Pass { tree: self.draft_tree(vocabulary_size), logits_of: LogitsOf::Every })
    }

    /// The draft tree of the next step, cut to what fits into the cache and to tokens that can still be
    /// produced.
    fn draft_tree(&mut self, vocabulary_size: usize) -> TokenTree {
        let limits = DraftLimits {
            nodes: self.cache.capacity().saturating_sub(self.cache.len() + 1),
            depth: self.max_len - self.tokens.len() - 1, // one token more comes free
        };
        if limits.depth == 0 {
            return drafter::root(&self.tokens);
        }
        let began = Instant::now();
        let draft = self.drafter.draft(&self.tokens, limits);
        let tree = if draft.tokens()[0] == self.tokens[self.tokens.len() - 1] {
            drafter::cut(draft, limits, vocabulary_size)
        } else {
            drafter::root(&self.tokens)
        };
        self.stats.retrieval += began.elapsed();
        tree
    }

    /// The path that the model would have produced, and its tokens; both empty while the prompt is not
    /// through.
    pub(crate) fn verify(&mut self, pass: &Pass, rows: &NodeLogits<'_>) -> Verified {
        if pass.logits_of == LogitsOf::Nothing {
            return Verified { path: Vec::new(), tokens: Vec::new() };
        }
        let began = Instant::now();
        let choose = |node, history: &[TokenId]| rows.choose(node, &mut self.sampler, history);
        let verified = verify(&pass.tree, pass.root(), choose, &mut self.tokens);
        if pass.logits_of == LogitsOf::Every {
            self.stats.verify += began.elapsed();
        }
        verified
    }

    /// Hands out the verified tokens until one of them ends the sequence, and returns how many were.
    pub(crate) fn emit(
        &mut self,
        verified: &Verified,
        mut on_token: impl FnMut(GeneratedToken) -> ControlFlow<FinishReason>,
    ) -> usize {
        let count = verified.tokens.len();
        for (index, &id) in verified.tokens.iter().enumerate() {
            let position = self.tokens.len();
            self.tokens.push(id);
            let wish = on_token(GeneratedToken { id, position, drafted: index + 1 < count });
            self.finish = if self.end_tokens.contains(&id) {
                Some(FinishReason::Stop)
            } else if let ControlFlow::Break(reason) = wish {
                Some(reason)
            } else {
                (self.tokens.len() >= self.max_len).then_some(FinishReason::Length)
            };
            if self.finish.is_some() {
                return index + 1;
            }
        }
        count
    }

    /// Keeps what the `produced` tokens hang off: in the cache the nodes that chose them, in the drafter the
    /// tokens.
    ///
    /// If an end token or a stop string cut the path short, the nodes behind it go as if they had been wrong.
    pub(crate) fn keep(&mut self, pass: &Pass, verified: &Verified, produced: usize, rows: &NodeLogits<'_>) {
        let path = &verified.path[..produced];
        let given = 0..pass.root() as u32;
        self.cache.keep(&given.chain(path.iter().copied()).collect::<Vec<_>>());
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
        for node in pass.root()..pass.tree.len() {
            let Some(likeliest) = rows.best(node) else { return };
            let (tokens, parent) = (pass.tree.tokens(), pass.tree.parents()[node] as usize);
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
        if pass.logits_of == LogitsOf::Every {
            self.stats.decode_tokens += produced;
            self.stats.draft_lengths.add(pass.tree.len() - 1);
            self.stats.accepted_lengths.add(produced.min(verified.path.len() - 1));
            self.stats.forward += forward;
            self.stats.decode += whole;
        } else {
            self.stats.prefill_passes += 1;
            self.stats.prefill += whole;
        }
    }

    /// The result, whether the sequence has ended or is given up now.
    pub fn into_generation(mut self) -> Generation {
        Generation {
            token_ids: self.tokens.split_off(self.prompt_tokens),
            finish_reason: self.finish.unwrap_or(FinishReason::Cancelled),
            stats: self.stats,
            logits_trace: self.trace,
            runners_up: self.runners_up,
        }
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
