//! Several residual streams, of which layers compute one, the active one.
//!
//! A layer begins with a prediction of what it makes of all streams: each with a share of each other added. Its blocks take
//! the active one from there, and what they make of it corrects the prediction of all. How large the shares are says a router, which
//! sees the active stream. Names are as in the source of [`AltUp`](crate::architecture::AltUp).

use std::ops::{BitOr, Range};

use lookahead_kernels::{
    Activations, InputCodes, Kernels, add, add_scaled, match_magnitude, scale, scale_each, tanh,
};

use super::linear::apply;
use super::norm::normalise;
use super::residual::keep_rows;
use crate::transformer::backend::Streams;
use crate::weights::{Linear, NormWeights};

/// Memory of the streams, kept for the next pass.
#[derive(Debug, Default)]
pub(super) struct StreamsBuffers {
    /// `[node][stream][hidden]`: within a layer, what it predicts of them.
    streams: Vec<f32>,
    /// What they were before.
    before: Vec<f32>,
    /// What the router makes of a node, `[node][stream]`.
    modalities: Vec<f32>,
    /// What a projection makes of a stream.
    projected: Vec<f32>,
}

/// The streams of all nodes of a pass. What its functions call `active` is the active one, `[node][hidden]`, which blocks add to.
pub(super) struct NodeStreams<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) described: Streams<'a>,
    pub(super) buffers: &'a mut StreamsBuffers,
}

impl NodeStreams<'_> {
    /// Makes the streams of what enters the first layer: the first is that itself, the others are projections of the same magnitude.
    pub(super) fn split(&mut self, active: &mut [f32], input: &mut Activations) {
        let (kernels, Streams { spec, hidden, weights, .. }) = (self.kernels, self.described);
        let (isa, nodes, width) = (kernels.isa(), active.len() / hidden, spec.streams * hidden);
        let StreamsBuffers { streams, projected, .. } = &mut *self.buffers;
        streams.resize(nodes * width, 0.0);
        let codes = weights.projections.iter().map(Linear::input_codes).fold(InputCodes::NONE, BitOr::bitor);
        let sources = [(&mut *active, hidden), (&mut streams[..], width)];
        input.compute(kernels, [nodes, hidden], codes, sources, 2 * hidden, |_, [entering, streams], row| {
            row.copy_from_slice(entering);
            streams[..hidden].copy_from_slice(entering);
        });
        for (stream, projection) in (1..).zip(&weights.projections) {
            apply(kernels, input, [(projection, projected)]);
            let rows = [(&mut projected[..], hidden), (&mut streams[..], width)];
            kernels.for_each_row(nodes, 3 * hidden, rows, |_, [projected, streams]| {
                match_magnitude(isa, projected, &streams[..hidden]);
                streams[stream * hidden..][..hidden].copy_from_slice(projected);
            });
        }
        self.copy(self.described.spec.active, active);
    }

    /// `h_i = h_i + sum of c_ij h_j`, where `c = prediction(modalities)`; `input` is what the router is given of the active stream.
    pub(super) fn predict(&mut self, active: &mut [f32], input: &Activations) {
        self.route(input);
        let (kernels, Streams { spec, hidden, .. }) = (self.kernels, self.described);
        let (isa, count, prediction) = (kernels.isa(), spec.streams, &self.described.layer().prediction);
        let (nodes, width) = (active.len() / hidden, count * hidden);
        let StreamsBuffers { streams, before, modalities, .. } = &mut *self.buffers;
        before.resize(streams.len(), 0.0);
        let rows = [(&mut streams[..], width), (&mut before[..], width), (&mut modalities[..], count)];
        kernels.for_each_row(nodes, (count + 2) * width, rows, |_, [streams, before, modalities]| {
            before.copy_from_slice(streams);
            let coefficients = prediction.chunks_exact(count * count);
            for (stream, coefficients) in streams.chunks_exact_mut(hidden).zip(coefficients) {
                for (other, coefficients) in before.chunks_exact(hidden).zip(coefficients.chunks_exact(count))
                {
                    add_scaled(isa, stream, other, dot(coefficients, modalities));
                }
            }
        });
        self.copy(self.described.spec.active, active);
    }

    /// `h_i = h_i + (1 + c_i) (x - h_active)`, where `x` is what the layer has made of the active stream and `c = correction(modalities)`;
    /// `input` is what the router is given of `x`. Leaves the corrected active stream, perhaps scaled.
    pub(super) fn correct(&mut self, active: &mut [f32], input: &Activations) {
        self.route(input);
        let (kernels, Streams { spec, hidden, .. }) = (self.kernels, self.described);
        let (isa, count, weights) = (kernels.isa(), spec.streams, self.described.layer());
        let (nodes, width, own) = (active.len() / hidden, count * hidden, spec.active * hidden);
        let StreamsBuffers { streams, modalities, .. } = &mut *self.buffers;
        let rows = [(&mut *active, hidden), (&mut streams[..], width), (&mut modalities[..], count)];
        kernels.for_each_row(nodes, 3 * width, rows, |_, [active, streams, modalities]| {
            add_scaled(isa, active, &streams[own..][..hidden], -1.0);
            let coefficients = weights.correction.chunks_exact(count);
            for (stream, coefficients) in streams.chunks_exact_mut(hidden).zip(coefficients) {
                add_scaled(isa, stream, active, 1.0 + dot(coefficients, modalities));
            }
            active.copy_from_slice(&streams[own..][..hidden]);
            scale_each(isa, active, &weights.scale);
        });
    }

    /// `h_i = h_i + norm(result)` for all streams but the first.
    pub(super) fn add(&mut self, active: &mut [f32], result: &mut [f32], norm: Option<&NormWeights>) {
        let (kernels, Streams { hidden, norm: norm_kind, .. }) = (self.kernels, self.described);
        let (isa, nodes) = (kernels.isa(), active.len() / hidden);
        let (streams, width) = self.rows();
        let rows = [(result, hidden), (&mut streams[..], width)];
        kernels.for_each_row(nodes, 3 * hidden + width, rows, |_, [result, streams]| {
            if let Some(norm) = norm {
                normalise(isa, norm_kind, norm, result);
            }
            for stream in streams.chunks_exact_mut(hidden).skip(1) {
                add(isa, stream, result);
            }
        });
        self.copy(self.described.spec.active, active);
    }

    /// Forgets all nodes but those of the given ranges, which ascend.
    pub(super) fn keep_nodes(&mut self, ranges: &[Range<usize>]) {
        let (streams, width) = self.rows();
        keep_rows(streams, width, ranges);
    }

    /// The streams, and how many values of them a node has.
    fn rows(&mut self) -> (&mut Vec<f32>, usize) {
        (&mut self.buffers.streams, self.described.spec.streams * self.described.hidden)
    }

    /// Makes one of the streams: the mean of the first and of projections of the others that have its magnitude.
    pub(super) fn merge(&mut self, merged: &mut [f32], input: &mut Activations) {
        let (kernels, Streams { spec, hidden, weights, .. }) = (self.kernels, self.described);
        let (isa, nodes, width) = (kernels.isa(), merged.len() / hidden, spec.streams * hidden);
        self.copy(0, merged);
        let StreamsBuffers { streams, projected, .. } = &mut *self.buffers;
        for (stream, unprojection) in (1..).zip(&weights.unprojections) {
            let (codes, sources) = (unprojection.input_codes(), [(&mut streams[..], width)]);
            input.compute(kernels, [nodes, hidden], codes, sources, hidden, |_, [streams], row| {
                row.copy_from_slice(&streams[stream * hidden..][..hidden]);
            });
            apply(kernels, input, [(unprojection, projected)]);
            let rows = [(&mut projected[..], hidden), (&mut streams[..], width), (&mut *merged, hidden)];
            kernels.for_each_row(nodes, 4 * hidden, rows, |_, [projected, streams, merged]| {
                match_magnitude(isa, projected, &streams[..hidden]);
                add(isa, merged, projected);
            });
        }
        kernels.for_each_row(nodes, hidden, [(merged, hidden)], |_, [merged]| {
            scale(isa, merged, 1.0 / spec.streams as f32);
        });
    }

    /// `modalities = tanh(router(input) / hidden)`
    fn route(&mut self, input: &Activations) {
        let modalities = &mut self.buffers.modalities;
        apply(self.kernels, input, [(&self.described.layer().router, modalities)]);
        for modality in modalities {
            *modality = tanh(*modality / self.described.hidden as f32);
        }
    }

    /// `to = h_stream`
    fn copy(&mut self, stream: usize, to: &mut [f32]) {
        let (kernels, hidden) = (self.kernels, self.described.hidden);
        let (streams, width) = self.rows();
        let rows = [(&mut *to, hidden), (&mut streams[..], width)];
        kernels.for_each_row(rows[0].0.len() / hidden, hidden, rows, |_, [to, streams]| {
            to.copy_from_slice(&streams[stream * hidden..][..hidden]);
        });
    }
}

/// The sum of products, first to last.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}
