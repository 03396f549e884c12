//! A model whose logits are hashes: cheap, repetitive, and sensitive to every row that its cache keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lookahead_engine::CostCurve;
use lookahead_model::{
    Accepted, Cache, CacheMemory, Candidate, ForwardError, Keep, LanguageModel, Logits, OutOfCacheMemory,
    SequenceStep, TokenId,
};

/// Each row of logits is a pseudo-random function of the cached rows and the node's ancestors. The token that
/// follows the last two is favoured by `peak`, so that text repeats the more the higher it is.
pub(crate) struct HashModel {
    pub vocabulary_size: usize,
    pub context_length: usize,
    pub peak: f32,
    pub seed: u64,
    pub memory: Arc<Memory>,
    /// Caches can be forked behind multiples of so many tokens only, as if there were snapshots of a recurrent state.
    pub snapshot_every: usize,
    /// Nodes that a pass may have.
    pub pass_nodes: usize,
    /// What a pass takes, at least.
    pub pace: Option<Arc<CostCurve>>,
    /// Nodes of each pass, by sequence.
    pub passes: Vec<Vec<usize>>,
    /// Sequences of each commit.
    pub commits: Vec<usize>,
    /// What was kept of each row of the last pass.
    pub kept: Vec<Keep>,
}

impl HashModel {
    pub(crate) fn new(vocabulary_size: usize, peak: f32, seed: u64) -> Self {
        let memory = Arc::new(Memory { total: usize::MAX, used: AtomicUsize::new(0) });
        Self {
            vocabulary_size,
            context_length: 4096,
            peak,
            seed,
            memory,
            snapshot_every: 1,
            pass_nodes: usize::MAX,
            pace: None,
            passes: Vec::new(),
            commits: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// The model with room for so many rows in all caches.
    #[must_use]
    pub(crate) fn with_memory(self, total: usize) -> Self {
        Self { memory: Arc::new(Memory { total, used: AtomicUsize::new(0) }), ..self }
    }

    /// Writes the logits after the rows `path`.
    fn logits_after(&self, path: &[Row], logits: &mut [f32]) {
        let digest = path.iter().fold(self.seed, |digest, row| mix(digest ^ row.state));
        let last = path[path.len() - 1].token;
        let last_but_one = if path.len() > 1 { path[path.len() - 2].token } else { 0 };
        let favourite =
            mix(self.seed ^ u64::from(last) << 32 ^ u64::from(last_but_one)) as usize % logits.len();
        for (token, logit) in logits.iter_mut().enumerate() {
            let noise = (mix(digest ^ token as u64) >> 40) as f32 / (1 << 24) as f32;
            *logit = 2.0 * noise + if token == favourite { self.peak } else { 0.0 };
        }
    }
}

/// SplitMix64's finaliser.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

/// What a real cache row is: a function of its token and of all rows before it when it was made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    token: TokenId,
    state: u64,
}

/// Rows that all caches of a model may take together.
#[derive(Debug)]
pub(crate) struct Memory {
    pub total: usize,
    pub used: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct HashCache {
    committed: Vec<Row>,
    pending: Vec<Row>,
    capacity: usize,
    snapshot_every: usize,
    memory: Arc<Memory>,
    /// Rows that it has taken of the memory.
    reserved: usize,
}

impl Drop for HashCache {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

impl HashCache {
    fn new(memory: Arc<Memory>, capacity: usize, snapshot_every: usize) -> Self {
        Self { committed: Vec::new(), pending: Vec::new(), capacity, snapshot_every, memory, reserved: 0 }
    }
}

impl Cache for HashCache {
    fn len(&self) -> usize {
        self.committed.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn reserve(&mut self, certain: usize, nodes: usize) -> Result<(), OutOfCacheMemory> {
        let more = (self.committed.len() + certain + nodes).saturating_sub(self.reserved);
        if self.memory.used.load(Ordering::Relaxed).saturating_add(more) > self.memory.total {
            return Err(OutOfCacheMemory);
        }
        self.memory.used.fetch_add(more, Ordering::Relaxed);
        self.reserved += more;
        Ok(())
    }

    fn forkable(&self, len: usize) -> usize {
        len.min(self.committed.len()) / self.snapshot_every * self.snapshot_every
    }

    fn fork(&self, len: usize, capacity: usize) -> Self {
        let len = self.forkable(len);
        let mut fork = Self::new(Arc::clone(&self.memory), capacity, self.snapshot_every);
        // Shared rows are free in pages of eight; the rest only where there is memory.
        let whole = len / 8 * 8;
        let len = if fork.reserve(len - whole, 0).is_ok() { len } else { whole };
        fork.committed = self.committed[..len].to_vec();
        fork.reserved = fork.reserved.max(len);
        fork.memory.used.fetch_add(fork.reserved - (len - whole), Ordering::Relaxed);
        fork
    }
}

impl LanguageModel for HashModel {
    type Cache = HashCache;

    fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn pass_nodes(&self) -> usize {
        self.pass_nodes
    }

    fn new_cache(&self, capacity: usize) -> HashCache {
        HashCache::new(Arc::clone(&self.memory), capacity, self.snapshot_every)
    }

    fn cache_memory(&self) -> CacheMemory {
        let used_bytes = self.memory.used.load(Ordering::Relaxed);
        CacheMemory {
            total_bytes: self.memory.total,
            used_bytes,
            token_bytes: 1,
            page_tokens: 1,
            state_bytes: 0,
            node_bytes: 0,
        }
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, HashCache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        let vocabulary_size = self.vocabulary_size;
        for step in batch.iter() {
            if let Some(&token) = step.tree.tokens().iter().find(|&&t| t as usize >= vocabulary_size) {
                return Err(ForwardError::UnknownToken { token, vocabulary_size });
            }
            let (committed, capacity, new) = (step.cache.len(), step.cache.capacity, step.tree.len());
            if committed + new > capacity {
                return Err(ForwardError::CacheFull { capacity, committed, new });
            }
            let deepest = step.tree.depths().iter().max().unwrap();
            assert!(committed + (*deepest as usize) < self.context_length, "a position beyond the context");
        }
        let nodes: Vec<usize> = batch.iter().map(|step| step.tree.len()).collect();
        if let Some(pace) = &self.pace {
            thread::sleep(Duration::from_secs_f64(pace.ms(nodes.iter().sum()) / 1e3));
        }
        self.passes.push(nodes);

        let kept = logits.reset(vocabulary_size, batch.iter().flat_map(SequenceStep::kept));
        self.kept = kept.keep.to_vec();
        let mut values = vec![0.0; kept.keep.len() * vocabulary_size];
        let mut next_row = values.chunks_exact_mut(vocabulary_size);
        for step in batch {
            step.cache.pending.clear();
            for node in 0..step.tree.len() {
                let mut path = step.cache.committed.clone();
                let ancestors = step.tree.path_to(node);
                path.extend(ancestors[..ancestors.len() - 1].iter().map(|&n| step.cache.pending[n as usize]));
                let token = step.tree.tokens()[node];
                let before = path.iter().fold(0, |digest, row| mix(digest ^ row.state));
                path.push(Row { token, state: mix(before ^ u64::from(token) << 20 ^ path.len() as u64) });
                step.cache.pending.push(path[path.len() - 1]);
                if step.asked().contains(&node) {
                    self.logits_after(&path, next_row.next().unwrap());
                }
            }
        }
        let (mut rows, mut best) = (kept.rows, kept.best);
        for (row, keep) in values.chunks_exact(vocabulary_size).zip(kept.keep) {
            match *keep {
                Keep::Row => rows.split_off_mut(..vocabulary_size).unwrap().copy_from_slice(row),
                Keep::Best(ranks) => {
                    let mut all: Vec<Candidate> =
                        row.iter().zip(0..).map(|(&logit, token)| Candidate { token, logit }).collect();
                    all.sort_by(Candidate::by_rank);
                    all.resize(ranks, Candidate::NONE);
                    best.split_off_mut(..ranks).unwrap().copy_from_slice(&all);
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, HashCache>]) {
        self.commits.push(batch.len());
        for Accepted { cache, path } in batch {
            assert!(path.windows(2).all(|pair| pair[0] < pair[1]), "a path ascends: {path:?}");
            cache.committed.extend(path.iter().map(|&node| cache.pending[node as usize]));
            cache.pending.clear();
        }
    }
}
