//! What is compared with plain decoding: kinds of drafts, on varying threads, prefill chunks and instruction sets.

use std::fmt;
use std::sync::Arc;

use lookahead_engine::{DraftPolicy, DraftShape, DraftSource, Namespace};
use lookahead_kernels::Isa;

/// Sizes of prefill chunks that take turns, in tokens. The first is the reference's.
const CHUNKS: [usize; 4] = [256, 1, 7, 64];
/// A prompt is cut into so many chunks at most: the small sizes would take minutes on a long one.
const MAX_CHUNKS: usize = 64;

/// What a namespace may take: enough for the answers to all prompts of a run.
pub(super) const NAMESPACE_BYTES: usize = 64 << 20;

/// Where the draft trees of a sequence come from.
#[derive(Clone, Debug)]
pub(super) enum Drafts {
    /// Nowhere: plain decoding.
    Nothing,
    /// The candidate's namespace.
    Shared(DraftPolicy),
    /// A namespace that was warmed up with the plain answer.
    KnownAnswer(DraftPolicy),
    /// Random trees of up to so many nodes.
    Random(usize),
    /// Trees of up to so many nodes around the plain answer.
    NearMisses(usize),
}

/// One way to decode, to be compared with plain decoding.
pub(super) struct Candidate {
    /// What reports call it.
    pub(super) name: String,
    /// For each sequence of the batch; all of them decode the same prompt.
    pub(super) batch: Vec<Drafts>,
    /// What its sequences draft from. It lives as long as the candidate, so it knows the answers to earlier prompts.
    pub(super) namespace: Arc<Namespace>,
    /// The instruction set, if not the best one.
    pub(super) isa: Option<Isa>,
}

impl Candidate {
    fn new(name: impl Into<String>, batch: Vec<Drafts>, isa: Option<Isa>) -> anyhow::Result<Self> {
        let namespace = Arc::new(Namespace::new(NAMESPACE_BYTES)?);
        Ok(Self { name: name.into(), batch, namespace, isa })
    }
}

/// The drafts of `draft_length` nodes and `branch_length` deep, however unlikely.
fn policy(shape: DraftShape, source: DraftSource, draft_length: usize, branch_length: usize) -> DraftPolicy {
    DraftPolicy { draft_length, branch_length, shape, source, min_probability: 0.0, ..DraftPolicy::default() }
}

/// Everything that is compared on every prompt.
pub(super) fn candidates(adversarial: bool) -> anyhow::Result<Vec<Candidate>> {
    use DraftShape::{Hierarchical, Parallel, Single};
    use DraftSource::{Mixed, Output, Prompt};
    let hierarchical = policy(Hierarchical, Mixed, 16, 12);
    let mut candidates = vec![Candidate::new("plain", vec![Drafts::Nothing], None)?];
    for policy in [
        policy(Hierarchical, Mixed, 4, 4),
        hierarchical.clone(),
        policy(Hierarchical, Mixed, 64, 24),
        policy(Hierarchical, Prompt, 16, 12),
        policy(Hierarchical, Output, 16, 12),
        policy(Parallel, Mixed, 16, 4),
        policy(Parallel, Mixed, 32, 12),
        policy(Single, Mixed, 4, 4),
        policy(Single, Mixed, 16, 16),
    ] {
        candidates.push(Candidate::new(name(&policy), vec![Drafts::Shared(policy)], None)?);
    }
    let known = vec![Drafts::KnownAnswer(policy(Hierarchical, Mixed, 16, 16))];
    candidates.push(Candidate::new("the answer known beforehand, 16 nodes", known, None)?);
    let mut batch = vec![Drafts::Nothing, Drafts::Shared(hierarchical.clone()), Drafts::Random(8)];
    if adversarial {
        let name = |kind: &str, length: usize| format!("{kind}, {length} nodes");
        for length in [16, 64] {
            candidates.push(Candidate::new(
                name("random trees", length),
                vec![Drafts::Random(length)],
                None,
            )?);
        }
        for length in [4, 16, 64] {
            let drafts = vec![Drafts::NearMisses(length)];
            candidates.push(Candidate::new(name("near misses", length), drafts, None)?);
        }
        batch.push(Drafts::NearMisses(12));
    }
    candidates.push(Candidate::new(format!("batch of {}", batch.len()), batch, None)?);
    for isa in other_vector_isas() {
        let name = |kind: &str| format!("{kind}, {}", isa.name());
        candidates.push(Candidate::new(name("plain"), vec![Drafts::Nothing], Some(isa))?);
        let trie = vec![Drafts::Shared(hierarchical.clone())];
        candidates.push(Candidate::new(name("hierarchical, 16 nodes"), trie, Some(isa))?);
    }
    Ok(candidates)
}

/// The scalar kernels, where they are not what the reference runs on.
pub(super) fn scalar_candidate() -> anyhow::Result<Vec<Candidate>> {
    if Isa::detect().name() == Isa::SCALAR.name() {
        return Ok(Vec::new());
    }
    Ok(vec![Candidate::new("plain, scalar kernels", vec![Drafts::Nothing], Some(Isa::SCALAR))?])
}

/// Plain decoding.
pub(super) fn plain() -> anyhow::Result<Candidate> {
    Candidate::new("plain", vec![Drafts::Nothing], None)
}

/// The vector instruction sets of this CPU but the best, which everything else runs on.
fn other_vector_isas() -> Vec<Isa> {
    let mut all = Isa::available();
    all.pop();
    all.retain(|isa| isa.name() != Isa::SCALAR.name());
    all
}

fn name(policy: &DraftPolicy) -> String {
    let shape = match policy.shape {
        DraftShape::Hierarchical => "hierarchical",
        DraftShape::Parallel => "parallel",
        DraftShape::Single => "single",
    };
    let source = match policy.source {
        DraftSource::Mixed => "",
        DraftSource::Prompt => ", out of the prompt",
        DraftSource::Output => ", out of output",
    };
    format!("{shape}, {} nodes, depth {}{source}", policy.draft_length, policy.branch_length)
}

/// What a run is computed with. No bit of the result may depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) threads: usize,
    /// Tokens.
    pub(super) prefill_chunk: usize,
    pub(super) isa: Isa,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "threads {}, prefill chunk {}, {}", self.threads, self.prefill_chunk, self.isa.name())
    }
}

/// The settings that take turns.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    threads: Vec<usize>,
}

impl Settings {
    /// With these numbers of threads, at least one.
    pub(super) fn new(threads: Vec<usize>) -> Self {
        Self { threads }
    }

    /// What the plain answers are computed with.
    pub(super) fn reference(&self) -> Setting {
        Setting { threads: self.threads[0], prefill_chunk: CHUNKS[0], isa: Isa::detect() }
    }

    /// What `candidate`, the one at `index`, is computed with on prompt `number`. Over the prompts, each candidate gets
    /// every combination, and on each prompt every number of threads and every chunk size has its turn.
    pub(super) fn turn(
        &self,
        number: usize,
        index: usize,
        prompt_tokens: usize,
        candidate: &Candidate,
    ) -> Setting {
        // The reference has the combination 0, so start behind it.
        let turn = number + index + 1;
        let chunk = CHUNKS[turn / self.threads.len() % CHUNKS.len()];
        Setting {
            threads: self.threads[turn % self.threads.len()],
            prefill_chunk: chunk.max(prompt_tokens.div_ceil(MAX_CHUNKS)),
            isa: candidate.isa.unwrap_or_else(Isa::detect),
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |numbers: &mut dyn Iterator<Item = usize>| {
            numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
        };
        let isas: Vec<&str> = other_vector_isas().into_iter().chain([Isa::detect()]).map(Isa::name).collect();
        let mut chunks = CHUNKS;
        chunks.sort_unstable();
        write!(
            f,
            "threads {}; prefill chunks {}; {}",
            join(&mut self.threads.iter().copied()),
            join(&mut chunks.into_iter()),
            isas.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_candidate_meets_every_combination_and_every_prompt_every_value() {
        let settings = Settings::new(vec![1, 2]);
        let candidates = candidates(true).unwrap();
        let turn = |number, index: usize| {
            let setting = settings.turn(number, index, 5, &candidates[index]);
            (setting.threads, setting.prefill_chunk)
        };
        for index in 0..candidates.len() {
            let combinations: BTreeSet<_> = (0..8).map(|number| turn(number, index)).collect();
            assert_eq!(combinations.len(), 8);
        }
        let on_one_prompt: BTreeSet<_> = (0..candidates.len()).map(|index| turn(3, index)).collect();
        assert_eq!(on_one_prompt.len(), 8);
    }

    #[test]
    fn a_long_prompt_is_cut_into_a_bounded_number_of_chunks() {
        let settings = Settings::new(vec![1]);
        let plain = plain().unwrap();
        for index in 0..4 {
            let setting = settings.turn(0, index, 1000, &plain);
            assert!(1000usize.div_ceil(setting.prefill_chunk) <= MAX_CHUNKS, "{setting}");
        }
    }

    #[test]
    fn candidates_have_names_of_their_own() {
        let candidates = candidates(true).unwrap();
        let names: BTreeSet<_> = candidates.iter().map(|candidate| &candidate.name).collect();
        assert_eq!(names.len(), candidates.len());
    }
}
