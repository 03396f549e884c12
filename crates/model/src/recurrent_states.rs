//! What the recurrent layers of a model keep of one sequence.
//!
//! A state belongs to some number of tokens, and is changed in place; of the tokens behind it, what they fed in is kept. So a
//! branch that is rejected costs nothing, and of one that is accepted the state is computed in the next pass, which goes
//! through it anyway. Copies are kept as snapshots for others to begin with.

use std::sync::Arc;

use crate::architecture::RecurrentShape;
use crate::cache_budget::{CacheBudget, Taken};
use crate::language_model::OutOfCacheMemory;

/// Snapshots of a sequence, at most.
const MOST_SNAPSHOTS: usize = 8;

/// Tokens between snapshots of a prompt that is computed in parts, at least.
const SNAPSHOT_TOKENS: usize = 512;

/// Where the states of a model's recurrent layers lie in a block of memory, and what counts the blocks.
#[derive(Debug)]
pub(crate) struct StatePool {
    shapes: Vec<RecurrentShape>,
    budget: Arc<CacheBudget>,
}

impl StatePool {
    pub(crate) fn new(shapes: impl Iterator<Item = RecurrentShape>, budget: Arc<CacheBudget>) -> Self {
        Self { shapes: shapes.collect(), budget }
    }

    /// Bytes of the states of one sequence.
    pub(crate) fn bytes(&self) -> usize {
        self.shapes.iter().map(RecurrentShape::bytes).sum()
    }

    /// Bytes of what a token feeds into all layers.
    pub(crate) fn fed_bytes(&self) -> usize {
        self.shapes.iter().map(RecurrentShape::fed_bytes).sum()
    }
}

/// The states of all recurrent layers after some tokens, counted in the budget: for each layer `[window][width]`, then its matrices.
#[derive(Debug)]
struct StateBlock {
    values: Box<[f32]>,
    _taken: Taken,
}

impl StateBlock {
    /// The states before the first token.
    fn new(pool: &StatePool) -> Result<Self, OutOfCacheMemory> {
        let (bytes, mut taken) = (pool.bytes(), Taken::nothing(&pool.budget));
        taken.grow_to(bytes)?;
        Ok(Self { values: vec![0.0; bytes / size_of::<f32>()].into(), _taken: taken })
    }
}

/// States of the recurrent layers of one sequence.
#[derive(Debug)]
pub(crate) struct RecurrentStates {
    pool: Arc<StatePool>,
    /// After the first `len` tokens. Nothing was computed yet if `None`.
    block: Option<Arc<StateBlock>>,
    len: usize,
    /// For each layer, what the committed tokens behind `len` fed in, then what pending nodes did.
    fed: Vec<Vec<f32>>,
    /// The memory of `fed`.
    fed_taken: Taken,
    behind: usize,
    pending: Pending,
    /// By length.
    snapshots: Vec<Snapshot>,
}

/// The nodes of the last pass.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    /// The first so many are a part of a prompt, and are in the state already.
    certain: usize,
    /// Whether the prompt ends with them.
    is_last: bool,
}

/// The states after so many tokens.
#[derive(Clone, Debug)]
struct Snapshot {
    len: usize,
    block: Arc<StateBlock>,
}

/// What a layer keeps.
pub(crate) struct LayerState<'a> {
    /// What the last tokens before the state's end fed in, `[window][width]`.
    pub(crate) window: &'a mut [f32],
    pub(crate) matrices: &'a mut [f32],
    /// What the tokens behind it fed in.
    pub(crate) fed: &'a mut Vec<f32>,
}

impl RecurrentStates {
    /// Those of an empty sequence.
    pub(crate) fn new(pool: Arc<StatePool>) -> Self {
        let fed = vec![Vec::new(); pool.shapes.len()];
        let fed_taken = Taken::nothing(&pool.budget);
        let (pending, snapshots) = (Pending::default(), Vec::new());
        Self { pool, block: None, len: 0, fed, fed_taken, behind: 0, pending, snapshots }
    }

    /// Whether the model has no recurrent layers.
    pub(crate) fn is_empty(&self) -> bool {
        self.fed.is_empty()
    }

    /// Takes memory of its own for the states, which may be shared so far, and for what `nodes` nodes of a draft feed in.
    pub(crate) fn reserve(&mut self, nodes: usize) -> Result<(), OutOfCacheMemory> {
        if self.is_empty() {
            return Ok(());
        }
        if self.block.as_mut().is_none_or(|block| Arc::get_mut(block).is_none()) {
            let mut own = StateBlock::new(&self.pool)?;
            if let Some(shared) = &self.block {
                own.values.copy_from_slice(&shared.values);
            }
            self.block = Some(Arc::new(own));
        }
        self.fed_taken.grow_to(nodes.max(self.behind).saturating_mul(self.pool.fed_bytes()))
    }

    /// Gives back the memory of snapshots, and what was taken for drafts larger than the last; whether there was any.
    pub(crate) fn give_back_spare(&mut self) -> bool {
        let had_snapshots = !self.snapshots.is_empty();
        self.snapshots.clear();
        self.fed.iter_mut().for_each(Vec::shrink_to_fit);
        let held = self.fed.iter().map(|fed| size_of_val(&fed[..])).sum();
        self.fed_taken.shrink_to(held) || had_snapshots
    }

    /// Drops what is pending, and begins a pass of which the first `certain` nodes are a part of a prompt; `is_last` says whether it ends
    /// with them.
    ///
    /// # Panics
    /// If a part of a prompt is pending.
    pub(crate) fn begin(&mut self, certain: usize, is_last: bool) {
        if self.is_empty() {
            return;
        }
        assert_eq!(self.pending.certain, 0, "a part of a prompt is committed before the next pass");
        for (fed, shape) in self.fed.iter_mut().zip(&self.pool.shapes) {
            fed.truncate(self.behind * shape.width);
        }
        self.pending = Pending { certain, is_last };
    }

    /// Committed tokens that are not in the states yet: a pass takes them in.
    pub(crate) fn behind(&self) -> usize {
        self.behind
    }

    /// What layer `layer` keeps.
    ///
    /// # Panics
    /// If nothing was reserved.
    pub(crate) fn layer(&mut self, layer: usize) -> LayerState<'_> {
        let shapes = &self.pool.shapes;
        let start = shapes[..layer].iter().map(RecurrentShape::values).sum::<usize>();
        let shape = &shapes[layer];
        let block = self.block.as_mut().and_then(Arc::get_mut).expect("reserved before");
        let state = &mut block.values[start..start + shape.values()];
        let (window, matrices) = state.split_at_mut(shape.window * shape.width);
        LayerState { window, matrices, fed: &mut self.fed[layer] }
    }

    /// Takes what the nodes of the pass fed into layer `layer`, after its matrices have taken the certain ones in.
    pub(crate) fn settle(&mut self, layer: usize, nodes: &[f32]) {
        let RecurrentShape { width, window: taken, .. } = self.pool.shapes[layer];
        let (behind, certain) = (self.behind, self.pending.certain);
        let LayerState { window, fed, .. } = self.layer(layer);
        // The window moves on along what it held, what was fed in since, and what the nodes fed in.
        let kept = behind + certain;
        for to in 0..taken {
            let from = kept + to;
            let row = to * width..(to + 1) * width;
            match from.checked_sub(taken) {
                None => window.copy_within(from * width..(from + 1) * width, row.start),
                Some(from) if from < behind => window[row].copy_from_slice(&fed[from * width..][..width]),
                Some(from) => window[row].copy_from_slice(&nodes[(from - behind) * width..][..width]),
            }
        }
        fed.clear();
        // No more than was taken of the budget.
        fed.reserve_exact(nodes.len() - certain * width);
        fed.extend_from_slice(&nodes[certain * width..]);
    }

    /// Ends the pass: all layers are settled.
    pub(crate) fn end(&mut self) {
        if !self.is_empty() {
            self.len += self.behind + self.pending.certain;
            self.behind = 0;
        }
    }

    /// Commits the pending nodes of `path`, which ascend.
    ///
    /// # Panics
    /// If a part of a prompt is missing.
    pub(crate) fn commit(&mut self, path: &[u32]) {
        if self.is_empty() {
            return;
        }
        let Pending { certain, is_last } = std::mem::take(&mut self.pending);
        let is_whole = path.len() >= certain && (0..certain as u32).eq(path[..certain].iter().copied());
        assert!(is_whole, "all of a prompt's part is committed");
        let open = path[certain..].iter().map(|&node| node as usize - certain);
        self.behind = path.len() - certain;
        for (fed, shape) in self.fed.iter_mut().zip(&self.pool.shapes) {
            for (to, from) in open.clone().enumerate().filter(|(to, from)| to != from) {
                fed.copy_within(from * shape.width..(from + 1) * shape.width, to * shape.width);
            }
            fed.truncate(self.behind * shape.width);
        }
        let last = self.snapshots.last().map_or(0, |snapshot| snapshot.len);
        if certain > 0 && (is_last || self.len >= last + SNAPSHOT_TOKENS) {
            self.take_snapshot();
        }
    }

    fn take_snapshot(&mut self) {
        let Some(block) = &self.block else { return };
        self.snapshots.push(Snapshot { len: self.len, block: Arc::clone(block) });
        if self.snapshots.len() > MOST_SNAPSHOTS {
            // The one whose neighbours are the closest together is missed the least.
            let gap = |&index: &usize| {
                let before = index.checked_sub(1).map_or(0, |before| self.snapshots[before].len);
                self.snapshots[index + 1].len - before
            };
            if let Some(least) = (0..MOST_SNAPSHOTS).min_by_key(gap) {
                self.snapshots.remove(least);
            }
        }
    }

    /// How many tokens, `len` at most, the states of another sequence can begin with.
    pub(crate) fn forkable(&self, len: usize) -> usize {
        if self.is_empty() {
            return len;
        }
        if self.block.is_some() && len >= self.len {
            return len.min(self.len + self.behind);
        }
        let snapshots = self.snapshots.iter().map(|snapshot| snapshot.len);
        snapshots.filter(|&snapshot| snapshot <= len).max().unwrap_or(0)
    }

    /// Those of another sequence after the first `len` tokens, which are [`forkable`](Self::forkable).
    pub(crate) fn fork(&self, len: usize) -> Self {
        let mut fork = Self::new(Arc::clone(&self.pool));
        if self.block.is_some() && len >= self.len {
            (fork.block, fork.len, fork.behind) = (self.block.clone(), self.len, len - self.len);
            for ((to, from), shape) in fork.fed.iter_mut().zip(&self.fed).zip(&self.pool.shapes) {
                to.extend_from_slice(&from[..fork.behind * shape.width]);
            }
        } else if let Some(snapshot) = self.snapshots.iter().find(|snapshot| snapshot.len == len) {
            (fork.block, fork.len) = (Some(Arc::clone(&snapshot.block)), len);
        }
        fork.snapshots.extend(self.snapshots.iter().filter(|snapshot| snapshot.len <= len).cloned());
        fork
    }
}
