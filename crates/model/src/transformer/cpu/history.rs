//! What tokens fed into a recurrent layer, along the path of each node, and the way of a batch through the layer's states.

use lookahead_kernels::{Kernels, RecurrenceShape, ScanPlan, recur};

use crate::architecture::MOST_TAPS;
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::pass_cache::PassCache as _;
use crate::recurrent_states::LayerState;
use crate::transformer::placements::Placements;

/// What the tokens of one sequence fed into a layer: those before the state's end, those behind it, and the nodes of the pass.
pub(super) struct History<'a> {
    plan: &'a ScanPlan,
    width: usize,
    window: &'a [f32],
    behind: &'a [f32],
    nodes: &'a [f32],
}

impl<'a> History<'a> {
    /// Rows of `width` values; `nodes` are those of the pass.
    pub(super) fn new(plan: &'a ScanPlan, width: usize, state: &'a LayerState<'_>, nodes: &'a [f32]) -> Self {
        Self { plan, width, window: state.window, behind: state.fed, nodes }
    }

    /// What row `row` of the plan fed in: those behind the state's end come first.
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        let at = row * self.width;
        match at.checked_sub(self.behind.len()) {
            None => &self.behind[at..][..self.width],
            Some(at) => &self.nodes[at..][..self.width],
        }
    }

    /// The first `channels` values of what row `row` and the tokens before it fed in, the oldest first, as many as `taps` has room for.
    pub(super) fn taps<'t>(
        &self,
        mut row: usize,
        channels: usize,
        taps: &'t mut [&'a [f32]],
    ) -> &'t [&'a [f32]] {
        let mut places = taps.iter_mut().rev();
        for place in &mut places {
            *place = &self.row(row)[..channels];
            match self.plan.parent(row) {
                Some(parent) => row = parent,
                None => break,
            }
        }
        // The window ends where the plan begins.
        let rows = self.window.chunks_exact(self.width).rev();
        for (place, row) in places.zip(rows) {
            *place = &row[..channels];
        }
        taps
    }
}

/// Room for the taps of a convolution.
pub(super) const NO_TAPS: [&[f32]; MOST_TAPS] = [&[]; MOST_TAPS];

/// What the nodes of a pass fed into a recurrent layer, on the way through its states.
pub(super) struct Fed<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) placements: &'a Placements,
    /// Which of the caches' recurrent layers it is.
    pub(super) layer: usize,
    /// `[node][width]`
    pub(super) values: &'a [f32],
    pub(super) width: usize,
}

/// Memory of the way, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct StateBuffers {
    /// Of one sequence, `[row][operands]`
    operands: Vec<f32>,
    scratch: Vec<f32>,
}

impl Fed<'_> {
    /// Takes each sequence through its own states: `prepare` makes the operands of a row of its history; `out` is what nodes read,
    /// `[node][head][value_dim]`.
    pub(super) fn recur(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        shape: &RecurrenceShape<'_>,
        buffers: &mut StateBuffers,
        out: &mut [f32],
        prepare: impl Fn(&History<'_>, usize, &mut [f32]) + Sync,
    ) {
        let Self { kernels, placements, layer, values, width } = *self;
        let StateBuffers { operands, scratch } = buffers;
        let out_width = shape.heads * shape.value_dim;
        for (step, nodes, plan) in placements.scans(batch) {
            let states = step.cache.states();
            let fed = &values[nodes.start * width..nodes.end * width];
            let state = states.layer(layer);
            let history = History::new(plan, width, &state, fed);
            operands.resize(plan.rows() * shape.width, 0.0);
            let rows = [(&mut operands[..], shape.width)];
            kernels.for_each_row(plan.rows(), 8 * shape.width, rows, |row, [operands]| {
                prepare(&history, row, operands);
            });
            let out = &mut out[nodes.start * out_width..nodes.end * out_width];
            recur(kernels, shape, plan, operands, state.matrices, scratch, out);
            states.settle(layer, fed);
        }
    }
}
