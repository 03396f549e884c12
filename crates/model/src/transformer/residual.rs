//! The residual stream: what blocks are given of it, and how their results are added to it.
//!
//! A result is added where the stream is next read, in the task that makes the next block's input of it. Where there are several
//! streams ([`altup`](super::altup)), this is the active one.

use std::ops::Range;

use lookahead_kernels::{Activations, InputCodes, Isa, Kernels, add, add_scaled, scale};

use super::altup::{Streams, StreamsBuffers};
use super::norm::{normalise, normalise_to};
use crate::architecture::{Architecture, Input};
use crate::weights::{BlockWeights, NormWeights, Weights};

/// Memory of a stream, kept for the next pass.
#[derive(Debug, Default)]
pub(super) struct ResidualBuffers {
    /// `[node][hidden]`
    stream: Vec<f32>,
    /// What the last block adds, and the one beside it.
    results: [Vec<f32>; 2],
    streams: StreamsBuffers,
}

/// The residual stream of all nodes of a pass.
pub(super) struct Residual<'a> {
    kernels: &'a Kernels,
    architecture: &'a Architecture,
    stream: &'a mut Vec<f32>,
    results: &'a mut [Vec<f32>; 2],
    /// All streams, where there are several.
    streams: Option<Streams<'a>>,
    /// How many of the results are still to be added, and how each is normalised before.
    pending: usize,
    post_norms: [Option<&'a NormWeights>; 2],
    /// How their sum is.
    joint_norm: Option<&'a NormWeights>,
    /// Factor on the stream behind them.
    scale: f32,
    /// The norm of the last block's input.
    last_norm: Option<&'a NormWeights>,
}

impl<'a> Residual<'a> {
    /// The stream of `nodes` nodes, with anything in it.
    pub(super) fn new(
        kernels: &'a Kernels,
        architecture: &'a Architecture,
        weights: &'a Weights,
        buffers: &'a mut ResidualBuffers,
        nodes: usize,
    ) -> Self {
        let ResidualBuffers { stream, results, streams } = buffers;
        stream.resize(nodes * architecture.hidden_size, 0.0);
        let streams = Streams::new(kernels, architecture, weights, streams);
        Self {
            kernels,
            architecture,
            stream,
            results,
            streams,
            pending: 0,
            post_norms: [None; 2],
            joint_norm: None,
            scale: 1.0,
            last_norm: None,
        }
    }

    /// The stream itself, `[node][hidden]`.
    pub(super) fn stream_mut(&mut self) -> &mut [f32] {
        self.stream
    }

    /// Makes all streams of this one, where there are several; `input` is scratch.
    pub(super) fn split(&mut self, input: &mut Activations) {
        if let Some(streams) = &mut self.streams {
            streams.split(self.stream, input);
        }
    }

    /// Makes one stream of all; `input` is scratch.
    pub(super) fn merge(&mut self, input: &mut Activations) {
        self.add_to_streams();
        if let Some(streams) = &mut self.streams {
            streams.merge(self.stream, input);
        }
    }

    /// Makes the input of a block; `codes` says in which quantized forms it is needed.
    pub(super) fn read(
        &mut self,
        input: Input,
        norm: Option<&'a NormWeights>,
        codes: InputCodes,
        to: &mut Activations,
    ) {
        self.last_norm = if input == Input::Shared { self.last_norm } else { norm };
        match input {
            Input::Beside | Input::Shared => self.normalise(self.last_norm, codes, to),
            Input::Normalised | Input::Plain => self.add_and_normalise(norm, codes, to),
            Input::Predicted => {
                self.add_to_streams();
                self.predict(to);
                self.normalise(norm, codes, to);
            }
            Input::Corrected => {
                self.correct(to);
                self.normalise(norm, codes, to);
            }
        }
    }

    /// Where the result of a block with this input and these weights goes.
    pub(super) fn result(&mut self, input: Input, weights: &'a BlockWeights) -> &mut Vec<f32> {
        (self.scale, self.joint_norm) = (weights.scale, weights.joint_norm.as_ref());
        let place = usize::from(input.is_beside());
        self.pending = place + 1;
        self.post_norms[place] = weights.post_norm.as_ref();
        &mut self.results[place]
    }

    /// Forgets all nodes but those of the given ranges, which ascend.
    pub(super) fn keep_nodes(&mut self, ranges: impl Iterator<Item = Range<usize>> + Clone) {
        let hidden = self.architecture.hidden_size;
        keep_rows(self.stream, hidden, ranges.clone());
        for result in &mut self.results[..self.pending] {
            keep_rows(result, hidden, ranges.clone());
        }
        if let Some((streams, width)) = self.streams.as_mut().map(Streams::rows) {
            keep_rows(streams, width, ranges);
        }
    }

    /// Adds the result of the last block to the streams that it belongs to: all but the first.
    fn add_to_streams(&mut self) {
        if let (Some(streams), 1) = (&mut self.streams, self.pending) {
            streams.add(self.stream, &mut self.results[0], self.post_norms[0]);
            self.pending = 0;
        }
    }

    /// The stream becomes what the layer predicts that it is.
    fn predict(&mut self, input: &mut Activations) {
        let Some(weights) = self.streams.as_ref().map(Streams::layer) else { return };
        self.normalise(Some(&weights.norm), weights.router.input_codes(), input);
        if let Some(streams) = &mut self.streams {
            streams.predict(self.stream, input);
        }
    }

    /// All streams are corrected by what the blocks of the layer have made of this one.
    fn correct(&mut self, input: &mut Activations) {
        let Some(weights) = self.streams.as_ref().map(Streams::layer) else { return };
        self.add_and_normalise(Some(&weights.norm), weights.router.input_codes(), input);
        if let Some(streams) = &mut self.streams {
            streams.correct(self.stream, input);
        }
    }

    /// `stream += post_norm(result)` for the results of the blocks before, or `stream += joint_norm(sum of post_norm(result))`, then
    /// `stream *= scale`, then `to = norm(stream)`.
    fn add_and_normalise(&mut self, norm: Option<&NormWeights>, codes: InputCodes, to: &mut Activations) {
        let Self { kernels, architecture, pending, post_norms, joint_norm, scale: factor, .. } = *self;
        let (isa, hidden) = (kernels.isa(), architecture.hidden_size);
        let (stream, [first, second]) = (&mut *self.stream, &mut *self.results);
        let shape = [stream.len() / hidden, hidden];
        let first = if pending > 0 { (&mut first[..], hidden) } else { (&mut [][..], 0) };
        let second = if pending > 1 { (&mut second[..], hidden) } else { (&mut [][..], 0) };
        let sources = [(&mut stream[..], hidden), first, second];
        to.compute(kernels, shape, codes, sources, 3 * hidden, |_, [stream, first, second], row| {
            let mut results = [first, second];
            for (result, post_norm) in results.iter_mut().zip(post_norms) {
                if let Some(norm) = post_norm.filter(|_| !result.is_empty()) {
                    normalise(isa, architecture.norm, norm, result);
                }
            }
            if let (Some(norm), [first, second]) = (joint_norm, &mut results) {
                add(isa, first, second);
                normalise(isa, architecture.norm, norm, first);
                *second = &mut [];
            }
            for result in results.into_iter().filter(|result| !result.is_empty()) {
                add_result(isa, architecture.residual_scale, stream, result);
            }
            if factor != 1.0 {
                scale(isa, stream, factor);
            }
            normalise_to(isa, architecture.norm, norm, stream, row);
        });
        (self.pending, self.scale) = (0, 1.0);
    }

    /// `to = norm(stream)`
    fn normalise(&mut self, norm: Option<&NormWeights>, codes: InputCodes, to: &mut Activations) {
        let Self { kernels, architecture, .. } = *self;
        let hidden = architecture.hidden_size;
        let stream = &mut *self.stream;
        let shape = [stream.len() / hidden, hidden];
        to.compute(kernels, shape, codes, [(&mut stream[..], hidden)], 3 * hidden, |_, [stream], row| {
            normalise_to(kernels.isa(), architecture.norm, norm, stream, row);
        });
    }
}

/// Moves the rows of the given ranges to the front and forgets the others.
fn keep_rows(values: &mut Vec<f32>, width: usize, ranges: impl Iterator<Item = Range<usize>>) {
    let mut kept = 0;
    for rows in ranges {
        values.copy_within(rows.start * width..rows.end * width, kept * width);
        kept += rows.len();
    }
    values.truncate(kept * width);
}

fn add_result(isa: Isa, scale: f32, stream: &mut [f32], result: &[f32]) {
    if scale == 1.0 {
        add(isa, stream, result);
    } else {
        add_scaled(isa, stream, result, scale);
    }
}
