//! What tokens fed into a recurrent layer, along the path of each node: for convolutions.

use lookahead_kernels::ScanPlan;

use crate::architecture::MOST_TAPS;
use crate::recurrent_states::LayerState;

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
