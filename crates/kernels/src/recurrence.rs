//! Recurrences whose state is a matrix for each head: linear attention, along the branches of a tree of tokens.
//!
//! A token fades the state, corrects what the state gives for its key, and reads the state by its query:
//!
//! - `state[k][v] = decay[k] state[k][v]`
//! - `correction[v] = (value[v] - sum_k state[k][v] key[k]) rate` by the delta rule, else `value[v] rate`
//! - `state[k][v] += key[k] correction[v]`
//! - `out[v] = sum_k state[k][v] query[k]`, beginning with `skip value[v]` where there is no delta rule
//!
//! A selective scan (Mamba 1) is the same with a rate, a skip and decays for each column: `decay[k][v] = e^(fade[k][v] rate[v])`.
//!
//! Sums run over `k` in ascending order, each product fused with the addition, one token after the other: so that what comes out is
//! a function of the tokens on the path. Columns `v` are independent: a task takes some of them through all tokens, and they
//! stay in the nearest cache meanwhile.

use std::ops::Range;

use crate::disjoint::Disjoint;
use crate::kernels::Kernels;
use crate::simd::{GROUP, MAX_PARTS, Simd, simd_fn};

/// Groups of columns of a task, at most: with 128 keys, 32 KiB of state.
const MOST_GROUPS: usize = 4;

/// Sizes of a recurrence, and where the operands of a token lie in its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrenceShape<'a> {
    /// Heads, each with a state.
    pub heads: usize,
    /// Heads of keys and queries, a divisor of the heads.
    pub key_heads: usize,
    /// Whether a head of keys serves every `key_heads`-th head; else heads that follow one another.
    pub interleaved: bool,
    /// Dimensions of a key and a query.
    pub key_dim: usize,
    /// Dimensions of a value.
    pub value_dim: usize,
    /// How a token changes the state.
    pub rule: StateRule<'a>,
    /// Decays of a head: one, or one a dimension of its key; none for a scan.
    pub decays: usize,
    /// Where the queries lie in a row of operands, `[key head][key_dim]`.
    pub queries: usize,
    /// Where the keys lie, `[key head][key_dim]`.
    pub keys: usize,
    /// Where the values lie, `[head][value_dim]`.
    pub values: usize,
    /// Where the decays lie, `[head][decays]`.
    pub decay: usize,
    /// Where the rates lie: one a head, or one a value for a scan.
    pub rates: usize,
    /// Length of a row of operands.
    pub width: usize,
}

/// How a token changes a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StateRule<'a> {
    /// Values are corrected by what the state gives for the key.
    Delta,
    /// Values are added. There is a factor for each head on the share that values have in what is read.
    Step {
        /// These factors.
        skips: &'a [f32],
    },
    /// The same, column by column. There is one head.
    Scan {
        /// How fast entries of the state fade, as [`RecurrenceShape::pack`] arranges them.
        fades: &'a [f32],
        /// The factors of columns.
        skips: &'a [f32],
    },
}

impl RecurrenceShape<'_> {
    /// Values of the state of all heads: `[head][block][key_dim][column]`. All are 0 in the beginning.
    pub fn state_len(&self) -> usize {
        self.heads * self.blocks() * self.block_len()
    }

    /// A number for each entry of a state, given as `[key_dim][value_dim]`, in the order of the state.
    pub fn pack(&self, entries: &[f32]) -> Vec<f32> {
        let (columns, mut packed) = (self.columns(), vec![0.0; self.blocks() * self.block_len()]);
        for (block, packed) in packed.chunks_exact_mut(self.block_len()).enumerate() {
            let columns_of_block = block * columns..self.value_dim.min((block + 1) * columns);
            for (row, packed) in entries.chunks_exact(self.value_dim).zip(packed.chunks_exact_mut(columns)) {
                packed[..columns_of_block.len()].copy_from_slice(&row[columns_of_block.clone()]);
            }
        }
        packed
    }

    /// Blocks of columns of a head.
    fn blocks(&self) -> usize {
        self.value_dim.div_ceil(MOST_GROUPS * GROUP)
    }

    /// Columns of a block, whole groups.
    fn columns(&self) -> usize {
        self.value_dim.div_ceil(self.blocks()).next_multiple_of(GROUP)
    }

    fn block_len(&self) -> usize {
        self.key_dim * self.columns()
    }

    fn key_head(&self, head: usize) -> usize {
        if self.interleaved { head % self.key_heads } else { head / (self.heads / self.key_heads) }
    }
}

/// The order in which the tokens of a pass go through a recurrence, and where their states are meanwhile.
///
/// The rows of a pass are a chain, after which the state is kept, and a tree that hangs off it. Reused between passes.
#[derive(Debug, Default)]
pub struct ScanPlan {
    kept: usize,
    parents: Vec<Option<u32>>,
    steps: Vec<ScanStep>,
    slots: usize,
    /// For each node of the tree, the nodes of its subtree.
    sizes: Vec<u32>,
    /// Its first child.
    children: Vec<Option<u32>>,
    /// The next child of its parent.
    siblings: Vec<Option<u32>>,
    /// Its child of the largest subtree.
    heaviest: Vec<Option<u32>>,
    stack: Vec<(ScanStep, usize)>,
}

/// A row takes the state from a slot and leaves its own in another, or in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScanStep {
    row: u32,
    from: usize,
    to: usize,
}

impl ScanPlan {
    /// Plans a pass of `kept` rows, a chain, and behind it a tree of `parents.len()` nodes: `parents[i]` is the node that node
    /// `i` follows, below `i`; node 0 follows the chain.
    ///
    /// The largest subtree of a node takes its state over, and only the others begin with a copy: there are no more copies at a time
    /// than the tree's binary logarithm.
    pub fn plan(&mut self, kept: usize, parents: &[u32]) {
        let nodes = parents.len();
        self.kept = kept;
        self.parents.clear();
        let chain = (0..kept).map(|row| (row as u32).checked_sub(1));
        let last = (kept as u32).checked_sub(1);
        let tree = parents.iter().enumerate();
        let tree = tree.map(|(node, &parent)| if node == 0 { last } else { Some(kept as u32 + parent) });
        self.parents.extend(chain.chain(tree));
        for list in [&mut self.children, &mut self.siblings, &mut self.heaviest] {
            list.clear();
            list.resize(nodes, None);
        }
        self.sizes.clear();
        self.sizes.resize(nodes, 1);
        for node in (1..nodes).rev() {
            let parent = parents[node] as usize;
            self.sizes[parent] += self.sizes[node];
            self.siblings[node] = self.children[parent].replace(node as u32);
            if self.heaviest[parent].is_none_or(|other| self.sizes[other as usize] < self.sizes[node]) {
                self.heaviest[parent] = Some(node as u32);
            }
        }
        self.steps.clear();
        self.slots = 1;
        self.stack.clear();
        if nodes > 0 {
            self.stack.push((ScanStep { row: 0, from: 0, to: 0 }, 1));
        }
        while let Some((step, free)) = self.stack.pop() {
            self.steps.push(ScanStep { row: step.row + kept as u32, ..step });
            self.slots = self.slots.max(free);
            let heaviest = self.heaviest[step.row as usize];
            // What is pushed first is run last.
            self.stack.extend(heaviest.map(|row| (ScanStep { row, from: step.to, to: step.to }, free)));
            let mut child = self.children[step.row as usize];
            while let Some(row) = child {
                if child != heaviest {
                    self.stack.push((ScanStep { row, from: step.to, to: free }, free + 1));
                }
                child = self.siblings[row as usize];
            }
        }
    }

    /// Rows of the pass.
    pub fn rows(&self) -> usize {
        self.parents.len()
    }

    /// The row that `row` follows; none if that is what was before the pass.
    pub fn parent(&self, row: usize) -> Option<usize> {
        self.parents[row].map(|parent| parent as usize)
    }
}

/// Runs the rows of `operands` through a recurrence as planned. `state` becomes that after the kept rows. `out` is `[row][head][value_dim]`,
/// of the last rows of the pass, as many as it has. `scratch` is kept between operators.
///
/// # Panics
/// If lengths do not fit the shape and the plan.
pub fn recur(
    kernels: &Kernels,
    shape: &RecurrenceShape<'_>,
    plan: &ScanPlan,
    operands: &[f32],
    state: &mut [f32],
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let &RecurrenceShape { heads, value_dim, width, .. } = shape;
    let (blocks, block_len, columns) = (shape.blocks(), shape.block_len(), shape.columns());
    let out_width = heads * value_dim;
    assert_eq!(operands.len(), plan.rows() * width, "operands of each row");
    assert_eq!(state.len(), shape.state_len(), "a state of each head");
    assert!(out.len().is_multiple_of(out_width) && out.len() <= plan.rows() * out_width, "results of rows");
    match shape.rule {
        StateRule::Delta => {}
        StateRule::Step { skips } => assert_eq!(skips.len(), heads, "a skip for each head"),
        StateRule::Scan { fades, skips } => {
            assert_eq!((heads, skips.len()), (1, value_dim), "one head, and a skip for each of its values");
            assert_eq!(fades.len(), shape.state_len(), "a fade for each entry of the state");
        }
    }
    let silent = plan.rows() - out.len() / out_width;
    let slots_len = plan.slots * block_len;
    if scratch.len() < kernels.threads() * slots_len {
        scratch.resize(kernels.threads() * slots_len, 0.0);
    }
    let (state, out, slots) = (Disjoint::new(state), Disjoint::new(out), Disjoint::new(&mut scratch[..]));
    let work = plan.rows() * block_len * 4;
    kernels.run(heads * blocks, work, |thread, task| {
        let (head, block) = (task / blocks, task % blocks);
        let first_column = block * columns;
        let task = Task {
            shape,
            operands,
            head,
            columns: first_column..value_dim.min(first_column + columns),
            entries: block * block_len..(block + 1) * block_len,
        };
        // SAFETY: a thread runs one task at a time.
        let slots = unsafe { slots.part(thread * slots_len, slots_len) };
        // SAFETY: each block of a head's state belongs to one task.
        let kept = unsafe { state.part((head * blocks + block) * block_len, block_len) };
        let result = |row: usize| {
            let at = row.checked_sub(silent)? * out_width + head * value_dim + first_column;
            // SAFETY: each row's columns of a block belong to one task.
            Some(unsafe { out.part(at, task.columns.len()) })
        };
        for row in 0..plan.kept {
            task.step(kernels, row, kept, result(row));
        }
        if !plan.steps.is_empty() {
            slots[..block_len].copy_from_slice(kept);
        }
        for &ScanStep { row, from, to } in &plan.steps {
            if from != to {
                slots.copy_within(from * block_len..(from + 1) * block_len, to * block_len);
            }
            let slot = &mut slots[to * block_len..][..block_len];
            task.step(kernels, row as usize, slot, result(row as usize));
        }
    });
}

/// Some columns of a head.
struct Task<'a> {
    shape: &'a RecurrenceShape<'a>,
    operands: &'a [f32],
    head: usize,
    columns: Range<usize>,
    /// These columns among the entries of a head's state.
    entries: Range<usize>,
}

impl Task<'_> {
    /// Takes the operands of a row through `state`.
    fn step(&self, kernels: &Kernels, row: usize, state: &mut [f32], out: Option<&mut [f32]>) {
        let Self { shape, operands, head, ref columns, ref entries } = *self;
        let row = &operands[row * shape.width..][..shape.width];
        let key_at = shape.key_head(head) * shape.key_dim;
        let key = &row[shape.keys + key_at..][..shape.key_dim];
        let query = &row[shape.queries + key_at..][..shape.key_dim];
        let mut values = filled_up(&row[shape.values + head * shape.value_dim..][columns.clone()]);
        if let StateRule::Scan { fades, skips } = shape.rule {
            let rates = filled_up(&row[shape.rates..][columns.clone()]);
            let skips = filled_up(&skips[columns.clone()]);
            let token = ScanToken { key, query, fades: &fades[entries.clone()], rates, skips };
            scan_step(kernels.isa(), &token, state, &mut values);
        } else {
            let skip = if let StateRule::Step { skips } = shape.rule { Some(skips[head]) } else { None };
            let decay = &row[shape.decay + head * shape.decays..][..shape.decays];
            let token = Token { key, query, decay, rate: row[shape.rates + head], skip };
            step(kernels.isa(), &token, state, &mut values);
        }
        if let Some(out) = out {
            out.copy_from_slice(&values[..columns.len()]);
        }
    }
}

/// What a head gets of a token, beside the value.
struct Token<'a> {
    key: &'a [f32],
    query: &'a [f32],
    decay: &'a [f32],
    rate: f32,
    /// By the delta rule if `None`.
    skip: Option<f32>,
}

/// What some columns get of a token in a scan, beside the value.
struct ScanToken<'a> {
    key: &'a [f32],
    query: &'a [f32],
    fades: &'a [f32],
    rates: [f32; MOST_GROUPS * GROUP],
    skips: [f32; MOST_GROUPS * GROUP],
}

/// Values of columns, and zeros behind them.
fn filled_up(values: &[f32]) -> [f32; MOST_GROUPS * GROUP] {
    let mut all = [0.0; MOST_GROUPS * GROUP];
    all[..values.len()].copy_from_slice(values);
    all
}

simd_fn! {
    /// Takes a token through the columns of `state`; `values` become the result.
    fn step(simd, token: &Token<'_>, state: &mut [f32], values: &mut [f32; MOST_GROUPS * GROUP]) {
        match state.len() / token.key.len() / GROUP {
            1 => step_groups::<S, 1>(simd, token, state, values),
            2 => step_groups::<S, 2>(simd, token, state, values),
            3 => step_groups::<S, 3>(simd, token, state, values),
            _ => step_groups::<S, MOST_GROUPS>(simd, token, state, values),
        }
    }
}

/// The same of `G` groups of columns.
#[inline(always)]
fn step_groups<S: Simd, const G: usize>(
    simd: S,
    token: &Token<'_>,
    state: &mut [f32],
    values: &mut [f32; MOST_GROUPS * GROUP],
) {
    let stride = usize::from(token.decay.len() > 1);
    let (rows, _) = state.as_chunks_mut::<GROUP>();
    let (values, _) = values.as_chunks_mut::<GROUP>();
    let mut corrections = [[simd.splat(0.0); MAX_PARTS]; G];
    if token.skip.is_none() {
        for (k, row) in rows.chunks_exact(G).enumerate() {
            let (decay, key) = (simd.splat(token.decay[k * stride]), simd.splat(token.key[k]));
            for g in 0..G {
                for part in 0..S::PARTS {
                    let faded = simd.mul(simd.load(&row[g], part), decay);
                    corrections[g][part] = simd.fma(faded, key, corrections[g][part]);
                }
            }
        }
    }
    let (rate, minus_one) = (simd.splat(token.rate), simd.splat(-1.0));
    let mut sums = [[simd.splat(0.0); MAX_PARTS]; G];
    for g in 0..G {
        for part in 0..S::PARTS {
            let value = simd.load(&values[g], part);
            if let Some(skip) = token.skip {
                corrections[g][part] = simd.mul(value, rate);
                sums[g][part] = simd.mul(value, simd.splat(skip));
            } else {
                let error = simd.fma(corrections[g][part], minus_one, value);
                corrections[g][part] = simd.mul(error, rate);
            }
        }
    }
    for (k, row) in rows.chunks_exact_mut(G).enumerate() {
        let decay = simd.splat(token.decay[k * stride]);
        let (key, query) = (simd.splat(token.key[k]), simd.splat(token.query[k]));
        for g in 0..G {
            for part in 0..S::PARTS {
                let faded = simd.mul(simd.load(&row[g], part), decay);
                let state = simd.fma(key, corrections[g][part], faded);
                simd.store(state, &mut row[g], part);
                sums[g][part] = simd.fma(state, query, sums[g][part]);
            }
        }
    }
    for g in 0..G {
        for part in 0..S::PARTS {
            simd.store(sums[g][part], &mut values[g], part);
        }
    }
}

simd_fn! {
    /// Takes a token through the columns of `state` in a scan; `values` become the result.
    fn scan_step(simd, token: &ScanToken<'_>, state: &mut [f32], values: &mut [f32; MOST_GROUPS * GROUP]) {
        let groups = state.len() / token.key.len() / GROUP;
        let (rows, _) = state.as_chunks_mut::<GROUP>();
        let (fades, _) = token.fades.as_chunks::<GROUP>();
        let ((values, _), (rates, _), (skips, _)) =
            (values.as_chunks_mut::<GROUP>(), token.rates.as_chunks::<GROUP>(), token.skips.as_chunks::<GROUP>());
        for g in 0..groups {
            let mut corrections = [simd.splat(0.0); MAX_PARTS];
            let mut sums = [simd.splat(0.0); MAX_PARTS];
            for part in 0..S::PARTS {
                let value = simd.load(&values[g], part);
                corrections[part] = simd.mul(value, simd.load(&rates[g], part));
                sums[part] = simd.mul(value, simd.load(&skips[g], part));
            }
            for k in 0..token.key.len() {
                let (row, fade) = (&mut rows[k * groups + g], &fades[k * groups + g]);
                let mut decay = [0.0; GROUP];
                for i in 0..GROUP {
                    decay[i] = crate::math::exp(fade[i] * rates[g][i]);
                }
                let (key, query) = (simd.splat(token.key[k]), simd.splat(token.query[k]));
                for part in 0..S::PARTS {
                    let faded = simd.mul(simd.load(row, part), simd.load(&decay, part));
                    let state = simd.fma(key, corrections[part], faded);
                    simd.store(state, row, part);
                    sums[part] = simd.fma(state, query, sums[part]);
                }
            }
            for part in 0..S::PARTS {
                simd.store(sums[part], &mut values[g], part);
            }
        }
    }
}

simd_fn! {
    /// A causal convolution of each channel: `out[c] = bias[c] + sum_t taps[t][c] weights[t][c]`, the oldest tap first, each product
    /// fused with the addition; then its [`silu`](crate::Activation::Silu) if `activated`. `weights` are `[tap][channel]`; a bias of 0
    /// may be empty.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn causal_convolution(
        _simd,
        taps: &[&[f32]],
        weights: &[f32],
        bias: &[f32],
        activated: bool,
        out: &mut [f32],
    ) {
        let channels = out.len();
        assert_eq!(weights.len(), taps.len() * channels, "a weight for each tap and channel");
        assert!(bias.is_empty() || bias.len() == channels, "a bias for each channel");
        if bias.is_empty() {
            out.fill(0.0);
        } else {
            out.copy_from_slice(bias);
        }
        for (tap, weights) in taps.iter().zip(weights.chunks_exact(channels)) {
            assert_eq!(tap.len(), channels, "channels of a tap");
            for ((out, x), weight) in out.iter_mut().zip(*tap).zip(weights) {
                *out = x.mul_add(*weight, *out);
            }
        }
        if activated {
            for out in out.iter_mut() {
                *out = crate::math::silu(*out);
            }
        }
    }
}

simd_fn! {
    /// `x = x / sqrt(sum(x^2) + epsilon) * factor`
    pub fn unit_length(_simd, x: &mut [f32], epsilon: f32, factor: f32) {
        let squares = crate::elementwise::lane_sum(x, |sum, x| x.mul_add(x, sum));
        let scale = 1.0 / (squares + epsilon).sqrt();
        for x in x.iter_mut() {
            *x = (*x * scale) * factor;
        }
    }
}

simd_fn! {
    /// `x = e^(x factor)`
    pub fn exp_of_product(_simd, x: &mut [f32], factor: f32) {
        for x in x.iter_mut() {
            *x = crate::math::exp(*x * factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(kept: usize, parents: &[u32]) -> (Vec<(u32, usize, usize)>, usize) {
        let mut plan = ScanPlan::default();
        plan.plan(kept, parents);
        (plan.steps.iter().map(|step| (step.row, step.from, step.to)).collect(), plan.slots)
    }

    #[test]
    fn a_chain_needs_one_slot_and_a_branch_one_more() {
        assert_eq!(slots(2, &[0, 0, 1]), (vec![(2, 0, 0), (3, 0, 0), (4, 0, 0)], 1));
        // Node 0 has the children 1 and 2, of which 2 has the larger subtree.
        let steps = vec![(0, 0, 0), (1, 0, 1), (2, 0, 0), (3, 0, 0)];
        assert_eq!(slots(0, &[0, 0, 0, 2]), (steps, 2));
        assert_eq!(slots(3, &[]), (vec![], 1));
    }

    #[test]
    fn slots_grow_with_the_logarithm_of_the_tree() {
        // A chain each of whose nodes has a leaf as well, and a full binary tree.
        let caterpillar: Vec<u32> = (0..63u32).map(|node| node.saturating_sub(1) / 2 * 2).collect();
        let binary: Vec<u32> = (0..63u32).map(|node| node.saturating_sub(1) / 2).collect();
        assert_eq!(slots(0, &caterpillar).1, 2);
        assert_eq!(slots(0, &binary).1, 6);
    }

    #[test]
    fn a_parent_is_the_row_before_in_the_chain_and_in_the_tree_what_the_tree_says() {
        let mut plan = ScanPlan::default();
        plan.plan(2, &[0, 0, 0]);
        let parents: Vec<_> = (0..5).map(|row| plan.parent(row)).collect();
        assert_eq!(parents, [None, Some(0), Some(1), Some(2), Some(2)]);
    }
}
