//! Selective scans: each sequence's nodes go through the states in its own cache, channel by channel.

use lookahead_kernels::{
    Activation, Activations, Kernels, RecurrenceShape, causal_convolution, gate, rms_norm_in_place, softplus,
};

use super::history::{Fed, History, NO_TAPS, StateBuffers};
use super::linear::apply;
use crate::architecture::SelectiveScan;
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::pass_cache::PassCache as _;
use crate::transformer::placements::Placements;
use crate::weights::ScanWeights;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct ScanBuffers {
    /// `[node][width]`
    channels: Vec<f32>,
    gates: Vec<f32>,
    /// What steps are made of, keys, queries: `[node][rank + 2 states]`
    selected: Vec<f32>,
    steps: Vec<f32>,
    /// As the cache keeps it: channels, steps, keys and queries, `[node][fed]`
    fed: Vec<f32>,
    /// What the convolution makes of channels, then what is read: `[node][width]`
    mixed: Vec<f32>,
    second_input: Activations,
    states: StateBuffers,
}

/// A selective scan of a pass.
pub(super) struct ScanBlock<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) spec: &'a SelectiveScan,
    pub(super) weights: &'a ScanWeights,
    /// Of the norms of what is selected.
    pub(super) epsilon: f32,
    /// Which of the caches' recurrent layers is its own.
    pub(super) layer: usize,
}

impl ScanBlock<'_> {
    /// `out = output(silu(gates) * scan(channels))`; `input` is overwritten.
    pub(super) fn run(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &Placements,
        input: &mut Activations,
        buffers: &mut ScanBuffers,
        out: &mut Vec<f32>,
    ) {
        let Self { kernels, spec, weights, layer, .. } = *self;
        let tokens = placements.positions.len();
        let (width, fed_width) = (spec.width, spec.state().width);
        apply(
            kernels,
            input,
            [(&weights.channels, &mut buffers.channels), (&weights.gates, &mut buffers.gates)],
        );
        let fed = &mut buffers.fed;
        fed.resize(tokens * fed_width, 0.0);
        let rows = [(&mut fed[..], fed_width), (&mut buffers.channels[..], width)];
        kernels
            .for_each_row(tokens, width, rows, |_, [fed, channels]| fed[..width].copy_from_slice(channels));
        self.convolve_nodes(batch, placements, buffers);
        self.select(tokens, buffers);

        let ScanBuffers { gates, fed, mixed, states, .. } = buffers;
        let shape = spec.shape(&weights.fades, &weights.skips);
        let fed = Fed { kernels, placements, layer, values: fed, width: fed_width };
        fed.recur(batch, &shape, states, mixed, |history, row, operands| {
            self.prepare(&shape, history, row, operands);
        });
        let sources = [(&mut mixed[..], width), (&mut gates[..], width)];
        let codes = weights.output.input_codes();
        input.compute(kernels, [tokens, width], codes, sources, 4 * width, |_, [mixed, gates], row| {
            gate(kernels.isa(), Activation::Silu, gates, mixed, row);
        });
        apply(kernels, input, [(&weights.output, out)]);
    }

    /// Convolves the channels of all nodes, for what is selected by them.
    fn convolve_nodes(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &Placements,
        buffers: &mut ScanBuffers,
    ) {
        let Self { kernels, spec, layer, .. } = *self;
        let (width, fed_width) = (spec.width, spec.state().width);
        let ScanBuffers { fed, mixed, .. } = buffers;
        mixed.resize(placements.positions.len() * width, 0.0);
        for (step, nodes, plan) in placements.scans(batch) {
            let states = step.cache.states();
            let behind = states.behind();
            let state = states.layer(layer);
            let fed = &fed[nodes.start * fed_width..nodes.end * fed_width];
            let history = History::new(plan, fed_width, &state, fed);
            let rows = [(&mut mixed[nodes.start * width..nodes.end * width], width)];
            kernels.for_each_row(nodes.len(), 4 * width, rows, |node, [convolved]| {
                self.convolve(&history, behind + node, convolved);
            });
        }
    }

    /// Makes steps, keys and queries of the convolved channels, and puts them behind what else is fed in.
    fn select(&self, tokens: usize, buffers: &mut ScanBuffers) {
        let Self { kernels, spec, weights, epsilon, .. } = *self;
        let ScanBuffers { selected, steps, fed, mixed, second_input, .. } = buffers;
        let &SelectiveScan { width, states, rank, .. } = spec;
        let isa = kernels.isa();
        let codes = weights.select.input_codes();
        second_input.compute(kernels, [tokens, width], codes, [(mixed, width)], width, |_, [mixed], row| {
            row.copy_from_slice(mixed);
        });
        apply(kernels, second_input, [(&weights.select, selected)]);
        let selected_width = rank + 2 * states;
        let (codes, sources) = (weights.steps.input_codes(), [(&mut selected[..], selected_width)]);
        second_input.compute(
            kernels,
            [tokens, rank],
            codes,
            sources,
            selected_width,
            |_, [selected], row| {
                if let Some(norms) = &weights.norms {
                    let (steps, rest) = selected.split_at_mut(rank);
                    let (keys, queries) = rest.split_at_mut(states);
                    for (values, norm) in [steps, keys, queries].into_iter().zip(norms) {
                        rms_norm_in_place(isa, values, norm, epsilon);
                    }
                }
                row.copy_from_slice(&selected[..rank]);
            },
        );
        apply(kernels, second_input, [(&weights.steps, steps)]);
        let rows = [
            (&mut fed[..], spec.state().width),
            (&mut steps[..], width),
            (&mut selected[..], selected_width),
        ];
        kernels.for_each_row(tokens, width, rows, |_, [fed, steps, selected]| {
            fed[width..2 * width].copy_from_slice(steps);
            fed[2 * width..].copy_from_slice(&selected[rank..]);
        });
    }

    /// Makes the operands of a row of what it and the tokens before it fed in.
    fn prepare(&self, shape: &RecurrenceShape<'_>, history: &History<'_>, row: usize, operands: &mut [f32]) {
        let (width, own) = (self.spec.width, history.row(row));
        self.convolve(history, row, &mut operands[..width]);
        for (rate, step) in operands[shape.rates..].iter_mut().zip(&own[width..2 * width]) {
            *rate = softplus(*step);
        }
        operands[shape.keys..shape.rates].copy_from_slice(&own[2 * width..]);
    }

    fn convolve(&self, history: &History<'_>, row: usize, convolved: &mut [f32]) {
        let Self { kernels, spec, weights, .. } = *self;
        let mut room = NO_TAPS;
        let taps = history.taps(row, spec.width, &mut room[..spec.taps]);
        let bias = &weights.convolution_bias;
        causal_convolution(kernels.isa(), taps, &weights.convolution, bias, true, convolved);
    }
}
