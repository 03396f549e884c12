//! Several residual streams on the GPU: rows of all nodes for each stream. Names are as in the source of
//! [`AltUp`](crate::architecture::AltUp).

use std::mem;
use std::ops::{BitOr, Range};

use lookahead_gpu::{Elementwise, Rows, Shares, add_shares, match_magnitude, scale_columns};
use lookahead_kernels::InputCodes;

use super::{GpuBackend, GpuInput, GpuRows, OnGpu};
use crate::transformer::backend::{Streams, StreamsStep};
use crate::weights::{Linear, NormWeights};

/// The streams of all nodes of a pass.
#[derive(Debug, Default)]
pub(super) struct StreamsOnGpu {
    /// `[stream][node][hidden]`: within a layer, what it predicts of them.
    streams: GpuRows,
    /// What they are to become.
    predicted: GpuRows,
    /// What the router makes of a node, `[node][stream]`.
    modalities: GpuRows,
    /// What a projection makes of a stream.
    projected: GpuRows,
}

impl StreamsOnGpu {
    /// One of `count` streams.
    fn stream(&self, stream: usize, count: usize) -> Rows {
        let all = self.streams.rows;
        let nodes = all.count / count;
        Rows { at: all.at + stream * nodes * all.width, count: nodes, ..all }
    }
}

impl GpuBackend<'_> {
    /// Takes the streams a step on; `active` is the active one.
    pub(super) fn step(
        &mut self,
        described: Streams<'_>,
        step: StreamsStep<'_, GpuRows, GpuInput>,
        active: Rows,
    ) {
        let mut on_gpu = mem::take(&mut self.on_gpu.streams);
        match step {
            StreamsStep::Split(input) => self.split(described, &mut on_gpu, active, input),
            StreamsStep::Predict(input) => self.predict(described, &mut on_gpu, active, input),
            StreamsStep::Correct(input) => self.correct(described, &mut on_gpu, active, input),
            StreamsStep::Add(result, norm) => self.add(described, &on_gpu, active, result.rows, norm),
            StreamsStep::Keep(nodes) => self.keep(described, &mut on_gpu, nodes),
            StreamsStep::Merge(input) => self.merge(described, &mut on_gpu, active, input),
        }
        self.on_gpu.streams = on_gpu;
    }

    /// Makes the streams of what enters the first layer: the first is that itself, the others are projections of the same magnitude.
    fn split(
        &mut self,
        described: Streams<'_>,
        on_gpu: &mut StreamsOnGpu,
        active: Rows,
        input: &mut GpuInput,
    ) {
        let Streams { spec, weights, .. } = described;
        self.make(&mut on_gpu.streams, spec.streams * active.count, active.width);
        let first = on_gpu.stream(0, spec.streams);
        self.elementwise(Elementwise::Copy, first, active);
        let codes = weights.projections.iter().map(Linear::input_codes).fold(InputCodes::NONE, BitOr::bitor);
        self.quantize(active, codes, input);
        for (stream, projection) in (1..).zip(&weights.projections) {
            let stream = on_gpu.stream(stream, spec.streams);
            self.multiply(input, projection, stream);
            self.match_magnitude(stream, first);
        }
        self.elementwise(Elementwise::Copy, active, on_gpu.stream(spec.active, spec.streams));
    }

    /// `h_i = h_i + sum of c_ij h_j`, where `c = prediction(modalities)`.
    fn predict(&mut self, described: Streams<'_>, on_gpu: &mut StreamsOnGpu, active: Rows, input: &GpuInput) {
        let modalities = self.route(described, on_gpu, input);
        let streams = on_gpu.streams.rows;
        let results = self.make(&mut on_gpu.predicted, streams.count, streams.width);
        let coefficients = self.on_gpu.constant(&described.layer().prediction);
        self.add_shares(Shares { streams, results, sources: streams, modalities, coefficients, least: 0.0 });
        mem::swap(&mut on_gpu.streams, &mut on_gpu.predicted);
        let Streams { spec, .. } = described;
        self.elementwise(Elementwise::Copy, active, on_gpu.stream(spec.active, spec.streams));
    }

    /// `h_i = h_i + (1 + c_i) (x - h_active)`, where `x` is what the layer has made of the active stream and
    /// `c = correction(modalities)`. Leaves the corrected active stream, perhaps scaled.
    fn correct(&mut self, described: Streams<'_>, on_gpu: &mut StreamsOnGpu, active: Rows, input: &GpuInput) {
        let modalities = self.route(described, on_gpu, input);
        let Streams { spec, .. } = described;
        let (streams, own) = (on_gpu.streams.rows, on_gpu.stream(spec.active, spec.streams));
        self.elementwise(Elementwise::AddScaled(-1.0), active, own);
        let weights = described.layer();
        let coefficients = self.on_gpu.constant(&weights.correction);
        let (results, sources) = (streams, active);
        self.add_shares(Shares { streams, results, sources, modalities, coefficients, least: 1.0 });
        self.elementwise(Elementwise::Copy, active, own);
        if !weights.scale.is_empty() {
            let factors = self.on_gpu.constant(&weights.scale);
            let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
            scale_columns(gpu, pass, active, factors);
        }
    }

    /// `h_i = h_i + norm(result)` for all streams but the first.
    fn add(
        &mut self,
        described: Streams<'_>,
        on_gpu: &StreamsOnGpu,
        active: Rows,
        result: Rows,
        norm: Option<&NormWeights>,
    ) {
        let Streams { spec, norm: kind, .. } = described;
        if let Some(weights) = norm {
            let norm = self.on_gpu.norm(kind, weights);
            self.normalise_part(norm, result.width, result, result);
        }
        for stream in 1..spec.streams {
            self.elementwise(Elementwise::Add, on_gpu.stream(stream, spec.streams), result);
        }
        self.elementwise(Elementwise::Copy, active, on_gpu.stream(spec.active, spec.streams));
    }

    /// Forgets all nodes but those of the given ranges.
    fn keep(&mut self, described: Streams<'_>, on_gpu: &mut StreamsOnGpu, ranges: &[Range<usize>]) {
        let count = described.spec.streams;
        let streams: Vec<_> = (0..count).map(|stream| on_gpu.stream(stream, count)).collect();
        on_gpu.streams = self.kept(ranges, &streams);
    }

    /// Makes one of the streams: the mean of the first and of projections of the others that have its magnitude.
    fn merge(
        &mut self,
        described: Streams<'_>,
        on_gpu: &mut StreamsOnGpu,
        merged: Rows,
        input: &mut GpuInput,
    ) {
        let Streams { spec, weights, .. } = described;
        let first = on_gpu.stream(0, spec.streams);
        self.elementwise(Elementwise::Copy, merged, first);
        for (stream, unprojection) in (1..).zip(&weights.unprojections) {
            self.quantize(on_gpu.stream(stream, spec.streams), unprojection.input_codes(), input);
            let projected = self.make(&mut on_gpu.projected, merged.count, merged.width);
            self.multiply(input, unprojection, projected);
            self.match_magnitude(projected, first);
            self.elementwise(Elementwise::Add, merged, projected);
        }
        self.elementwise(Elementwise::Scale(1.0 / spec.streams as f32), merged, merged);
    }

    /// `modalities = tanh(router(input) / hidden)`
    fn route(&mut self, described: Streams<'_>, on_gpu: &mut StreamsOnGpu, input: &GpuInput) -> Rows {
        let router = &described.layer().router;
        let nodes = on_gpu.streams.rows.count / described.spec.streams;
        let modalities = self.make(&mut on_gpu.modalities, nodes, router.matrix.rows());
        self.multiply(input, router, modalities);
        self.elementwise(Elementwise::TanhOf(described.hidden as f32), modalities, modalities);
        modalities
    }

    fn add_shares(&mut self, shares: Shares) {
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        add_shares(gpu, pass, shares);
    }

    fn match_magnitude(&mut self, rows: Rows, like: Rows) {
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        match_magnitude(gpu, pass, rows, like);
    }
}
