//! The residual stream: what blocks are given of it, and how their results are added to it.
//!
//! A result is added where the stream is next read, in the operator that makes the next block's input of it. Where there are several
//! streams ([`AltUp`](crate::architecture::AltUp)), this is the active one.

use std::ops::Range;

use lookahead_kernels::InputCodes;

use super::backend::{Backend, Normalised, Streams, StreamsStep, Sum};
use crate::architecture::{Architecture, Input};
use crate::weights::{BlockWeights, NormWeights, Weights};

/// Memory of a stream, kept for the next pass.
#[derive(Debug, Default)]
pub(super) struct ResidualBuffers<Rows> {
    /// `[node][hidden]`
    stream: Rows,
    /// What the last block adds, and the one beside it.
    results: [Rows; 2],
}

/// The residual stream of all nodes of a pass.
pub(super) struct Residual<'a, B: Backend> {
    architecture: &'a Architecture,
    nodes: usize,
    stream: &'a mut B::Rows,
    results: &'a mut [B::Rows; 2],
    /// All streams, where there are several.
    streams: Option<Streams<'a>>,
    /// How the results that are not added yet are to be.
    pending: Sum<'a>,
    /// The norm of the last block's input.
    last_norm: Option<&'a NormWeights>,
}

impl<'a, B: Backend> Residual<'a, B> {
    /// The stream of `nodes` nodes, with anything in it.
    pub(super) fn new(
        architecture: &'a Architecture,
        weights: &'a Weights,
        buffers: &'a mut ResidualBuffers<B::Rows>,
        nodes: usize,
    ) -> Self {
        let ResidualBuffers { stream, results } = buffers;
        let &Architecture { norm, hidden_size: hidden, ref altup, .. } = architecture;
        let altup = altup.as_ref().zip(weights.altup.as_ref());
        let streams = altup.map(|(spec, weights)| Streams { spec, weights, norm, hidden, layer: 0 });
        let pending = nothing(architecture);
        Self { architecture, nodes, stream, results, streams, pending, last_norm: None }
    }

    /// The stream itself, `[node][hidden]`.
    pub(super) fn stream_mut(&mut self) -> &mut B::Rows {
        self.stream
    }

    /// The stream, to which all results are added; `input` is scratch.
    #[cfg(feature = "gpu")]
    pub(super) fn finish(mut self, backend: &mut B, input: &mut B::Input) -> &'a B::Rows {
        self.add_and_normalise(backend, None, InputCodes::NONE, input);
        self.stream
    }

    /// Makes all streams of this one, where there are several; `input` is scratch.
    pub(super) fn split(&mut self, backend: &mut B, input: &mut B::Input) {
        self.step_streams(backend, StreamsStep::Split(input));
    }

    /// Makes one stream of all; `input` is scratch.
    pub(super) fn merge(&mut self, backend: &mut B, input: &mut B::Input) {
        self.add_to_streams(backend);
        self.step_streams(backend, StreamsStep::Merge(input));
    }

    /// Makes the input of a block; `codes` says in which quantized forms it is needed.
    pub(super) fn read(
        &mut self,
        backend: &mut B,
        input: Input,
        norm: Option<&'a NormWeights>,
        codes: InputCodes,
        to: &mut B::Input,
    ) {
        self.last_norm = if input == Input::Shared { self.last_norm } else { norm };
        match input {
            Input::Beside | Input::Shared => self.normalise(backend, self.last_norm, codes, to),
            Input::Normalised | Input::Plain => self.add_and_normalise(backend, norm, codes, to),
            Input::Predicted => {
                self.add_to_streams(backend);
                self.predict(backend, to);
                self.normalise(backend, norm, codes, to);
            }
            Input::Corrected => {
                self.correct(backend, to);
                self.normalise(backend, norm, codes, to);
            }
        }
    }

    /// Where the result of a block with this input and these weights goes.
    pub(super) fn result(&mut self, input: Input, weights: &'a BlockWeights) -> &mut B::Rows {
        let place = usize::from(input.is_beside());
        self.pending.results = place + 1;
        self.pending.post_norms[place] = weights.post_norm.as_ref();
        self.pending.joint_norm = weights.joint_norm.as_ref();
        self.pending.stream_scale = weights.scale;
        &mut self.results[place]
    }

    /// Forgets all nodes but those of the given ranges, which ascend.
    pub(super) fn keep_nodes(&mut self, backend: &mut B, ranges: &[Range<usize>]) {
        let hidden = self.architecture.hidden_size;
        backend.keep_nodes(ranges, self.stream, hidden);
        for result in &mut self.results[..self.pending.results] {
            backend.keep_nodes(ranges, result, hidden);
        }
        self.step_streams(backend, StreamsStep::Keep(ranges));
        self.nodes = ranges.iter().map(Range::len).sum();
    }

    /// Adds the result of the last block to the streams that it belongs to: all but the first.
    fn add_to_streams(&mut self, backend: &mut B) {
        if let (Some(streams), 1) = (self.streams, self.pending.results) {
            let add = StreamsStep::Add(&mut self.results[0], self.pending.post_norms[0]);
            backend.step_streams(streams, add, self.stream);
            self.pending.results = 0;
        }
    }

    /// The active stream becomes what the layer predicts that it is.
    fn predict(&mut self, backend: &mut B, input: &mut B::Input) {
        let Some(weights) = self.streams.map(|streams| streams.layer()) else { return };
        self.normalise(backend, Some(&weights.norm), weights.router.input_codes(), input);
        self.step_streams(backend, StreamsStep::Predict(input));
    }

    /// All streams are corrected by what the blocks of the layer have made of this one. The next layer computes then.
    fn correct(&mut self, backend: &mut B, input: &mut B::Input) {
        let Some(weights) = self.streams.map(|streams| streams.layer()) else { return };
        self.add_and_normalise(backend, Some(&weights.norm), weights.router.input_codes(), input);
        self.step_streams(backend, StreamsStep::Correct(input));
        self.streams = self.streams.map(|streams| Streams { layer: streams.layer + 1, ..streams });
    }

    /// Takes the streams a step on, where there are several.
    fn step_streams(&mut self, backend: &mut B, step: StreamsStep<'_, B::Rows, B::Input>) {
        if let Some(streams) = self.streams {
            backend.step_streams(streams, step, self.stream);
        }
    }

    /// Adds the results of the blocks before, then `to = norm(stream)`.
    fn add_and_normalise(
        &mut self,
        backend: &mut B,
        norm: Option<&NormWeights>,
        codes: InputCodes,
        to: &mut B::Input,
    ) {
        let how = self.normalised(norm, codes);
        backend.add_and_normalise(&self.pending, how, self.stream, self.results, to);
        self.pending = nothing(self.architecture);
    }

    /// `to = norm(stream)`
    fn normalise(
        &mut self,
        backend: &mut B,
        norm: Option<&NormWeights>,
        codes: InputCodes,
        to: &mut B::Input,
    ) {
        backend.normalise(self.normalised(norm, codes), self.stream, to);
    }

    fn normalised<'n>(&self, weights: Option<&'n NormWeights>, codes: InputCodes) -> Normalised<'n> {
        let &Architecture { norm, hidden_size, .. } = self.architecture;
        Normalised { shape: [self.nodes, hidden_size], norm, weights, codes }
    }
}

/// No results.
fn nothing(architecture: &Architecture) -> Sum<'static> {
    Sum {
        results: 0,
        post_norms: [None; 2],
        joint_norm: None,
        scale: architecture.residual_scale,
        stream_scale: 1.0,
    }
}
