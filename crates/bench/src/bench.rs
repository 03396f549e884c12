//! Decodes the prompts of a suite in every setting.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lookahead_engine::{
    CostCurve, DraftLimits, DraftPolicy, Drafter, Engine, EngineError, FinishReason, Generation,
    GenerationRequest, Namespace, NamespaceDrafter, NoDraft, Sequence, Sharing, Spellings,
};
use lookahead_model::{LanguageModel, TokenId};

use crate::journal::{Journal, JournalError};
use crate::peer::{PEER_MODES, Peer, PeerError};
use crate::run::{Lesson, Run, RunKey, Setting};
use crate::setting::{Policy, Warmth};
use crate::suite::{Case, Prompt, Task, Turns};

/// What a namespace may take, in bytes.
const NAMESPACE_BYTES: usize = 256 << 20;

/// Nodes of the drafts by which a namespace learns from answers that are there already.
const LESSON_NODES: usize = 8;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// The draft policies.
    pub policies: Vec<Policy>,
    /// What they have learned before.
    pub warmths: Vec<Warmth>,
    /// How often each prompt is measured in each setting.
    pub repeats: usize,
    /// How many prompts are decoded at once, apart from one at a time: each number is measured over the prompts of all
    /// tasks.
    pub batch_sizes: Vec<usize>,
    /// The most new tokens of an answer.
    pub max_tokens: usize,
    /// Tokens that end an answer.
    pub end_tokens: Vec<TokenId>,
    /// The tokens of the vocabulary that are one word.
    pub spellings: Option<Arc<Spellings>>,
    /// Another program to measure.
    pub peer: Option<PeerPlan>,
}

/// Another program to measure on the same prompts.
#[derive(Clone, Debug)]
pub struct PeerPlan {
    /// llama.cpp's `llama-server`.
    pub server: PathBuf,
    /// The model's file.
    pub model: PathBuf,
    /// Threads that compute.
    pub threads: usize,
    /// Prompts of each task that it answers, at most: it takes much of the time.
    pub limit: usize,
}

/// Why a benchmark cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A prompt cannot be decoded.
    #[error("task {task}, prompt {prompt}: {source}")]
    Decode {
        /// The task.
        task: String,
        /// The prompt.
        prompt: String,
        /// What the engine said.
        source: EngineError,
    },
    /// A turn of a conversation cannot be made a prompt.
    #[error("task {task}, prompt {prompt}: {reason}")]
    Turn {
        /// The task.
        task: String,
        /// The prompt.
        prompt: String,
        /// Why not.
        reason: String,
    },
    /// The runs cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The other program cannot be measured.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl Plan {
    /// The prompts of `task` whose answers teach: none if nothing that is measured learns from them.
    fn lessons<'a>(&self, task: &'a Task) -> &'a [Case] {
        let learns = |warmth: &Warmth| matches!(warmth, Warmth::Same | Warmth::Other);
        if self.warmths.iter().any(learns) { &task.warm_up } else { &[] }
    }

    /// Generations that the whole benchmark takes.
    pub fn generations(&self) -> usize {
        let lessons: usize = self.tasks.iter().map(|task| self.lessons(task).len()).sum();
        let measured: usize = self.tasks.iter().map(|task| task.measured.len()).sum();
        let settings = 1 + self.policies.len() * self.warmths.len();
        let peers: usize = match &self.peer {
            Some(peer) => self.tasks.iter().map(|task| task.measured.len().min(peer.limit)).sum(),
            None => 0,
        };
        let batches: usize = self.batch_sizes.iter().map(|&size| self.batches(size).len()).sum();
        let batched = batches * (1 + self.policies.len());
        lessons + self.repeats * (measured * settings + peers * PEER_MODES.len() + batched)
    }

    /// The prompts that are measured, in batches of `size`: the first of each task, then the second, and so on. What does
    /// not fill a batch is left out, and so are later turns of conversations.
    pub(crate) fn batches(&self, size: usize) -> Vec<Vec<&[TokenId]>> {
        let longest = self.tasks.iter().map(|task| task.measured.len()).max().unwrap_or(0);
        let in_turn =
            (0..longest).flat_map(|turn| self.tasks.iter().filter_map(move |task| task.measured.get(turn)));
        let known = in_turn.filter_map(|case| match &case.prompt {
            Prompt::Known(tokens) => Some(tokens.as_slice()),
            Prompt::Later { .. } => None,
        });
        let prompts: Vec<&[TokenId]> = known.collect();
        prompts.chunks_exact(size.max(1)).map(<[_]>::to_vec).collect()
    }
}

/// A benchmark at work.
pub struct Bench<'a, M: LanguageModel> {
    engine: Engine<M>,
    plan: &'a Plan,
    curve: Arc<CostCurve>,
    journal: &'a mut Journal,
    cancel: Arc<AtomicBool>,
}

/// What ends a benchmark early: `Ok(None)` of a part is "cancelled".
type Part<T> = Result<Option<T>, BenchError>;

impl<'a, M: LanguageModel> Bench<'a, M> {
    /// A benchmark of the model in `engine` by `plan`; adaptive drafts follow the curve of `journal`. It ends early once
    /// `cancel` is true.
    pub fn new(engine: Engine<M>, plan: &'a Plan, journal: &'a mut Journal, cancel: Arc<AtomicBool>) -> Self {
        let curve = Arc::new(journal.header().curve.clone());
        Self { engine, plan, curve, journal, cancel }
    }

    /// Does what the journal does not have yet. Calls `on_generation` before each generation of the plan, done or not, with
    /// what it is. Returns whether all was done.
    ///
    /// # Errors
    /// If a prompt cannot be decoded, a run not be kept, or the other program not be run. What was measured before is
    /// kept.
    pub fn run(&mut self, mut on_generation: impl FnMut(&str)) -> Result<bool, BenchError> {
        let plan = self.plan;
        for task in &plan.tasks {
            if self.learn(task, &mut on_generation)?.is_none() {
                return Ok(false);
            }
        }
        for task in &plan.tasks {
            let same = self.taught(|other| other.name == task.name)?;
            let other = self.taught(|other| other.name != task.name)?;
            for repeat in 0..plan.repeats {
                if self.measure(task, repeat, [&same, &other], &mut on_generation)?.is_none() {
                    return Ok(false);
                }
            }
            if let Some(peer) = &plan.peer
                && self.measure_peer(task, peer, &mut on_generation)?.is_none()
            {
                return Ok(false);
            }
        }
        for &size in &plan.batch_sizes {
            for repeat in 0..plan.repeats {
                if self.measure_batches(size, repeat, &mut on_generation)?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The answers to the prompts of `task` that teach.
    fn learn(&mut self, task: &Task, on_generation: &mut impl FnMut(&str)) -> Part<()> {
        let (namespace, mut turns) = (namespace(), Turns::default());
        for case in self.plan.lessons(task) {
            on_generation(&format!("{}: learning", task.name));
            let Some(prompt) = self.prompt(&mut turns, task, case)? else {
                tell_left_out(task, case);
                continue;
            };
            if let Some(lesson) = self.journal.lesson(&task.name, &case.id) {
                teach(&namespace, &prompt, &lesson.token_ids);
                turns.answered(&lesson.token_ids);
                continue;
            }
            // By any decoding the answers are the same; this one is the fastest.
            let policy = DraftPolicy::adaptive(Arc::clone(&self.curve));
            let drafter = NamespaceDrafter::new(Arc::clone(&namespace), policy);
            let Some(generation) = self.generate(task, case, &prompt, Box::new(drafter))? else {
                return Ok(None);
            };
            turns.answered(&generation.token_ids);
            self.journal.add_lesson(Lesson {
                task: task.name.clone(),
                prompt: case.id.clone(),
                token_ids: generation.token_ids,
            })?;
        }
        Ok(Some(()))
    }

    /// A namespace that has served the requests of the lessons of the tasks that `is_known` takes.
    fn taught(&self, is_known: impl Fn(&Task) -> bool) -> Result<Arc<Namespace>, BenchError> {
        let namespace = namespace();
        for task in self.plan.tasks.iter().filter(|task| is_known(task)) {
            let mut turns = Turns::default();
            for case in self.plan.lessons(task) {
                let Some(prompt) = self.prompt(&mut turns, task, case)? else { continue };
                if let Some(lesson) = self.journal.lesson(&task.name, &case.id) {
                    teach(&namespace, &prompt, &lesson.token_ids);
                    turns.answered(&lesson.token_ids);
                }
            }
        }
        Ok(namespace)
    }

    /// The prompt of the case behind those that `turns` has seen; `None` if it has to be left out.
    fn prompt(
        &self,
        turns: &mut Turns,
        task: &Task,
        case: &Case,
    ) -> Result<Option<Vec<TokenId>>, BenchError> {
        turns.next(case, self.engine.model().context_length()).map_err(|source| BenchError::Turn {
            task: task.name.clone(),
            prompt: case.id.clone(),
            reason: source.to_string(),
        })
    }

    /// One repeat of a task: each prompt plainly, and then in every other setting.
    fn measure(
        &mut self,
        task: &Task,
        repeat: usize,
        [same, other]: [&Arc<Namespace>; 2],
        on_generation: &mut impl FnMut(&str),
    ) -> Part<()> {
        let plan = self.plan;
        let online: Vec<_> = plan.policies.iter().map(|_| namespace()).collect();
        let mut turns = Turns::default();
        for case in &task.measured {
            let Some(prompt) = self.prompt(&mut turns, task, case)? else {
                if repeat == 0 {
                    tell_left_out(task, case);
                }
                continue;
            };
            let key = |setting| run_key(task, case, repeat, setting);
            on_generation(&format!("{}: plain", task.name));
            let plain = key(Setting::Plain);
            if self.measure_once(task, case, &prompt, plain.clone(), Box::new(NoDraft))?.is_none() {
                return Ok(None);
            }
            if let Some(run) = self.journal.run(&plain) {
                turns.answered(&run.token_ids);
            }
            for (policy, online) in plan.policies.iter().zip(&online) {
                for &warmth in &plan.warmths {
                    let (namespace, sharing) = match warmth {
                        Warmth::Cold => (&namespace(), Sharing::Read),
                        Warmth::Same => (same, Sharing::Read),
                        Warmth::Other => (other, Sharing::Read),
                        Warmth::Online => (online, Sharing::ReadWrite),
                    };
                    on_generation(&format!("{}: {policy}, {}", task.name, warmth.as_str()));
                    let setting = Setting::Lookahead { policy: policy.to_string(), warmth };
                    let key = key(setting);
                    if warmth == Warmth::Online
                        && let Some(run) = self.journal.run(&key)
                    {
                        teach(online, &prompt, &run.token_ids);
                    }
                    let drafter = self.drafter(policy, namespace, sharing);
                    if self.measure_once(task, case, &prompt, key, drafter)?.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(()))
    }

    /// A drafter by `policy` out of `namespace`.
    fn drafter(&self, policy: &Policy, namespace: &Arc<Namespace>, sharing: Sharing) -> Box<dyn Drafter> {
        let spellings = self.plan.spellings.clone();
        let policy = DraftPolicy { sharing, spellings, ..policy.draft_policy(Some(&self.curve)) };
        Box::new(NamespaceDrafter::new(Arc::clone(namespace), policy))
    }

    /// Decodes a prompt, unless the journal has the run.
    fn measure_once(
        &mut self,
        task: &Task,
        case: &Case,
        prompt: &[TokenId],
        key: RunKey,
        drafter: Box<dyn Drafter>,
    ) -> Part<()> {
        if self.journal.run(&key).is_none() {
            let Some(generation) = self.generate(task, case, prompt, drafter)? else { return Ok(None) };
            self.journal.add(Run::of_generation(key, generation))?;
        }
        Ok(Some(()))
    }

    fn request(&self, prompt: &[TokenId]) -> GenerationRequest {
        GenerationRequest {
            prompt: prompt.into(),
            max_tokens: self.plan.max_tokens,
            end_tokens: self.plan.end_tokens.clone(),
            cancel: Some(Arc::clone(&self.cancel)),
            ..GenerationRequest::default()
        }
    }

    /// `None` if it was cancelled.
    fn generate(
        &mut self,
        task: &Task,
        case: &Case,
        prompt: &[TokenId],
        drafter: Box<dyn Drafter>,
    ) -> Part<Generation> {
        let generation = self.engine.generate(self.request(prompt), drafter, |_| ControlFlow::Continue(()));
        let generation = generation.map_err(|source| BenchError::Decode {
            task: task.name.clone(),
            prompt: case.id.clone(),
            source,
        })?;
        Ok((generation.finish_reason != FinishReason::Cancelled).then_some(generation))
    }

    /// One repeat of all batches of `size` prompts: plainly, and by each policy, knowing nothing.
    fn measure_batches(
        &mut self,
        size: usize,
        repeat: usize,
        on_generation: &mut impl FnMut(&str),
    ) -> Part<()> {
        let plan = self.plan;
        let lookahead = plan.policies.iter().map(Some);
        let settings: Vec<Option<&Policy>> = std::iter::once(None).chain(lookahead).collect();
        for (number, prompts) in plan.batches(size).into_iter().enumerate() {
            for policy in &settings {
                let setting = match policy {
                    None => Setting::Plain,
                    Some(policy) => Setting::Lookahead { policy: policy.to_string(), warmth: Warmth::Cold },
                };
                let key = RunKey { task: batch_name(size), prompt: format!("#{number}"), repeat, setting };
                on_generation(&format!("{} prompts at once", prompts.len()));
                if self.journal.run(&key).is_some() {
                    continue;
                }
                let drafter = |_| match policy {
                    None => Box::new(NoDraft),
                    Some(policy) => self.drafter(policy, &namespace(), Sharing::Read),
                };
                let drafters = prompts.iter().map(drafter).collect();
                let decoded = self.decode_batch(&prompts, drafters).map_err(|source| BenchError::Decode {
                    task: key.task.clone(),
                    prompt: key.prompt.clone(),
                    source,
                })?;
                let Some((generations, decode)) = decoded else { return Ok(None) };
                self.journal.add(Run::of_batch(key, generations, decode))?;
            }
        }
        Ok(Some(()))
    }

    /// The answers to several prompts, and the time in which they were decoded together, after the first token of each.
    /// `None` if it was cancelled.
    fn decode_batch(
        &mut self,
        prompts: &[&[TokenId]],
        drafters: Vec<Box<dyn Drafter>>,
    ) -> Result<Option<(Vec<Generation>, Duration)>, EngineError> {
        let mut sequences = Vec::new();
        for (prompt, drafter) in prompts.iter().zip(drafters) {
            let mut sequence = [self.engine.start(self.request(prompt), drafter)?];
            let mut has_begun = false;
            while !has_begun && !sequence[0].has_ended() {
                self.engine.step(&mut sequence, |_, _| {
                    has_begun = true;
                    ControlFlow::Continue(())
                })?;
            }
            sequences.extend(sequence);
        }
        let began = Instant::now();
        while sequences.iter().any(|sequence| !sequence.has_ended()) {
            self.engine.step(&mut sequences, |_, _| ControlFlow::Continue(()))?;
        }
        let decode = began.elapsed();
        let generations =
            sequences.into_iter().map(Sequence::into_generation).collect::<Result<Vec<_>, _>>()?;
        let is_cancelled = generations.iter().any(|one| one.finish_reason == FinishReason::Cancelled);
        Ok((!is_cancelled).then_some((generations, decode)))
    }

    /// The prompts of a task by another program, in each of its modes.
    fn measure_peer(
        &mut self,
        task: &Task,
        plan: &PeerPlan,
        on_generation: &mut impl FnMut(&str),
    ) -> Part<()> {
        let (mut cases, mut turns) = (Vec::new(), Turns::default());
        for case in &task.measured[..task.measured.len().min(plan.limit)] {
            let Some(prompt) = self.prompt(&mut turns, task, case)? else { continue };
            if let Some(run) = self.journal.run(&run_key(task, case, 0, Setting::Plain)) {
                turns.answered(&run.token_ids);
            }
            cases.push((case, prompt));
        }
        let longest = cases.iter().map(|(_, prompt)| prompt.len()).max().unwrap_or(0);
        // Room for what is drafted beyond the end.
        let context_length = longest + self.plan.max_tokens + 128;
        let runs =
            PEER_MODES.into_iter().flat_map(|mode| (0..self.plan.repeats).map(move |repeat| (mode, repeat)));
        for (mode, repeat) in runs {
            // A server of its own for each repeat: what some modes keep of a prompt's answer must not serve that prompt.
            let mut peer = None;
            for (case, prompt) in &cases {
                on_generation(&format!("{}: {mode} of the other program", task.name));
                if self.cancel.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let key = run_key(task, case, repeat, Setting::Peer { mode: mode.to_owned() });
                if self.journal.run(&key).is_some() {
                    continue;
                }
                let peer = if let Some(peer) = &mut peer {
                    peer
                } else {
                    let (server, model) = (&plan.server, &plan.model);
                    peer.insert(Peer::start(server, model, plan.threads, context_length, mode)?)
                };
                match peer.complete(prompt, self.plan.max_tokens) {
                    Ok(answer) => self.journal.add(Run::of_peer(key, answer))?,
                    // Ctrl-C reaches the other program, too.
                    Err(_) if self.cancel.load(Ordering::Relaxed) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Some(()))
    }
}

fn run_key(task: &Task, case: &Case, repeat: usize, setting: Setting) -> RunKey {
    RunKey { task: task.name.clone(), prompt: case.id.clone(), repeat, setting }
}

fn tell_left_out(task: &Task, case: &Case) {
    tracing::warn!("{}: {} does not fit into the model's context and is left out", task.name, case.id);
}

/// What batches of a size are called in the journal. No task has this name: it holds a line feed.
pub(crate) fn batch_name(size: usize) -> String {
    format!("batch\n{size}")
}

fn namespace() -> Arc<Namespace> {
    Arc::new(Namespace::new(NAMESPACE_BYTES).expect("the bound is large enough"))
}

/// Lets `namespace` learn from an answer as if it had served the request.
fn teach(namespace: &Arc<Namespace>, prompt: &[TokenId], answer: &[TokenId]) {
    let policy = DraftPolicy { draft_length: LESSON_NODES, min_probability: 0.0, ..DraftPolicy::default() };
    let mut drafter = NamespaceDrafter::new(Arc::clone(namespace), policy);
    let mut context = prompt.to_vec();
    drafter.begin(prompt);
    for &token in answer {
        drafter.draft(&context, DraftLimits { nodes: LESSON_NODES, depth: LESSON_NODES });
        drafter.accept(&[token]);
        context.push(token);
    }
}
