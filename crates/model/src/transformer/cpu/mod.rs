//! The CPU: each operator is a job of the kernels, in which a task makes rows of what comes next while they are in its cache.
//!
//! Mixers that keep states are whole: recurrences, scans, convolutions. So are several residual streams ([`altup`]).

mod altup;
mod attention;
mod convolution;
pub(super) mod embedding;
mod experts;
mod heads;
mod history;
mod latent_attention;
mod linear;
mod logits;
mod norm;
mod others;
mod recurrence;
mod residual;
mod scan;

use std::mem::swap;
use std::ops::Range;

use lookahead_kernels::{
    Activations, AttentionScratch, AttentionShape, InputCodes, Kept, KeptScratch, Kernels, activate, gate,
    keep_outliers,
};

use self::altup::{NodeStreams, StreamsBuffers};
use self::heads::HeadBuffers;
use self::others::OtherBuffers;
use super::backend::{
    AttentionBlock, Backend, CacheLayer, Gathered, HeadParts, LatentBlock, Normalised, OtherBlock, Step,
    Streams, StreamsStep, Sum,
};
use super::placements::Placements;
use crate::architecture::{Architecture, Mlp, Norm, PerLayer};
use crate::kv_cache::KvCache;
use crate::weights::{Linear, NormWeights, PerLayerInputsWeights, Weights};

/// The kernels, and memory that operators need besides what they are given, kept for the next ones.
#[derive(Debug)]
pub(crate) struct Cpu {
    kernels: Kernels,
    /// A row of an embedding.
    embedding: Vec<f32>,
    attention: AttentionScratch,
    heads: HeadBuffers,
    kept: KeptScratch,
    others: OtherBuffers,
    streams: StreamsBuffers,
}

impl Cpu {
    pub(crate) fn new(kernels: Kernels) -> Self {
        Self {
            kernels,
            embedding: Vec::new(),
            attention: AttentionScratch::default(),
            heads: HeadBuffers::default(),
            kept: KeptScratch::default(),
            others: OtherBuffers::default(),
            streams: StreamsBuffers::default(),
        }
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }
}

impl Backend for Cpu {
    type Rows = Vec<f32>;
    type Input = Activations;
    type Cache = KvCache;

    fn embed(
        &mut self,
        architecture: &Architecture,
        weights: &Weights,
        batch: &[Step<'_, Self>],
        placements: &Placements,
        stream: &mut Vec<f32>,
    ) {
        let (tokens, positions) = (batch.iter().flat_map(|step| step.tree.tokens()), &placements.positions);
        stream.resize(positions.len() * architecture.hidden_size, 0.0);
        embedding::embed(
            self.kernels.isa(),
            architecture,
            weights,
            tokens.zip(positions),
            &mut self.embedding,
            stream,
        );
    }

    fn apply<const N: usize>(&mut self, input: &Activations, products: [(&Linear, &mut Vec<f32>); N]) {
        linear::apply(&self.kernels, input, products);
    }

    fn copy(&mut self, from: &Vec<f32>, to: &mut Vec<f32>) {
        to.clone_from(from);
    }

    fn normalise(&mut self, how: Normalised<'_>, rows: &mut Vec<f32>, to: &mut Activations) {
        residual::normalise_rows(&self.kernels, how, rows, to);
    }

    fn add_and_normalise(
        &mut self,
        sum: &Sum<'_>,
        how: Normalised<'_>,
        stream: &mut Vec<f32>,
        results: &mut [Vec<f32>; 2],
        to: &mut Activations,
    ) {
        residual::add_and_normalise(&self.kernels, sum, how, stream, results, to);
    }

    fn normalise_and_add(
        &mut self,
        norm: Norm,
        weights: &NormWeights,
        input: &Activations,
        rows: &mut Vec<f32>,
    ) {
        residual::normalise_and_add(&self.kernels, norm, weights, input, rows);
    }

    fn keep_nodes(&mut self, nodes: &[Range<usize>], rows: &mut Vec<f32>, width: usize) {
        residual::keep_rows(rows, width, nodes);
    }

    fn turn(
        &mut self,
        block: &AttentionBlock<'_>,
        placements: &Placements,
        queries: &mut Vec<f32>,
        keys_and_values: Option<[&mut Vec<f32>; 2]>,
    ) {
        attention::turn(&self.kernels, block, placements, queries, keys_and_values);
    }

    fn turn_latents(
        &mut self,
        block: &LatentBlock<'_>,
        placements: &Placements,
        queries: &mut Vec<f32>,
        latents: &mut Vec<f32>,
    ) {
        latent_attention::turn_latents(&self.kernels, block, placements, queries, latents);
    }

    fn store(
        &mut self,
        layer: CacheLayer,
        batch: &mut [Step<'_, Self>],
        placements: &Placements,
        keys_and_values: [&Vec<f32>; 2],
    ) {
        attention::store(layer, batch, placements, keys_and_values);
    }

    fn attend(
        &mut self,
        layer: CacheLayer,
        shape: AttentionShape<'_>,
        batch: &[Step<'_, Self>],
        placements: &Placements,
        queries: &Vec<f32>,
        out: &mut Vec<f32>,
    ) {
        attention::attend(
            &self.kernels,
            (layer, shape),
            batch,
            placements,
            queries,
            &mut self.attention,
            out,
        );
    }

    fn apply_to_heads(
        &mut self,
        maps: &[Linear],
        parts: [HeadParts; 2],
        rows: &mut Vec<f32>,
        out: &mut Vec<f32>,
    ) {
        heads::apply_to_heads(&self.kernels, maps, parts, rows, &mut self.heads, out);
    }

    fn copy_heads(&mut self, parts: [HeadParts; 2], rows: &Vec<f32>, out: &mut Vec<f32>) {
        heads::copy_heads(parts, rows, out);
    }

    fn gate_heads(
        &mut self,
        shape: [usize; 2],
        gates: Option<&mut Vec<f32>>,
        values: &mut Vec<f32>,
        codes: InputCodes,
        to: &mut Activations,
    ) {
        let [nodes, width] = shape;
        let gates = gates.map(|gates| &mut gates[..]).unwrap_or_default();
        let gate_width = gates.len() / nodes.max(1);
        let sources = [(&mut values[..], width), (gates, gate_width)];
        to.compute(&self.kernels, shape, codes, sources, width, |_, [values, gates], row| {
            attention::gate_heads(self.kernels.isa(), gates, values, row);
        });
    }

    fn activate(
        &mut self,
        spec: &Mlp,
        gates: Option<&mut Vec<f32>>,
        ups: &mut Vec<f32>,
        codes: InputCodes,
        to: &mut Activations,
    ) {
        let (kernels, isa, &Mlp { size, activation, .. }) = (&self.kernels, self.kernels.isa(), spec);
        let shape = [ups.len() / size, size];
        let thin_out = |row: &mut [f32]| {
            if let Some(deviations) = spec.sparsity {
                keep_outliers(isa, row, deviations);
            }
        };
        if let Some(gates) = gates {
            let sources = [(&mut gates[..], size), (&mut ups[..], size)];
            to.compute(kernels, shape, codes, sources, 8 * size, |_, [gates, ups], row| {
                thin_out(gates);
                gate(isa, activation, gates, ups, row);
            });
        } else {
            to.compute(kernels, shape, codes, [(&mut ups[..], size)], 8 * size, |_, [ups], row| {
                thin_out(ups);
                activate(isa, activation, ups, row);
            });
        }
    }

    fn read_back<const N: usize>(&mut self, rows: [(&mut Vec<f32>, &mut Vec<f32>); N]) {
        for (rows, to) in rows {
            swap(rows, to);
        }
    }

    fn zero(&mut self, like: &Activations, rows: &mut Vec<f32>) {
        rows.clear();
        rows.resize(like.tokens() * like.columns(), 0.0);
    }

    fn gather(&mut self, gathered: &Gathered<'_>, from: &Activations, to: &mut Activations) {
        experts::gather(&self.kernels, gathered, from, to);
    }

    fn add_rows(
        &mut self,
        rows: impl Iterator<Item = (usize, f32)>,
        width: usize,
        from: &Vec<f32>,
        to: &mut Vec<f32>,
    ) {
        experts::add_rows(self.kernels.isa(), rows, width, from, to);
    }

    fn add_layer_embeddings(
        &mut self,
        architecture: &Architecture,
        weights: &PerLayerInputsWeights,
        batch: &[Step<'_, Self>],
        inputs: &mut Vec<f32>,
    ) {
        let tokens = batch.iter().flat_map(|step| step.tree.tokens());
        embedding::add_layer_embeddings(
            self.kernels.isa(),
            architecture,
            weights,
            tokens,
            &mut self.embedding,
            inputs,
        );
    }

    fn gate_layer_inputs(
        &mut self,
        spec: &PerLayer,
        gates: &mut Vec<f32>,
        inputs: &mut Vec<f32>,
        codes: InputCodes,
        to: &mut Activations,
    ) {
        let &PerLayer { size, activation, layer, .. } = spec;
        let tokens = gates.len() / size;
        let width = inputs.len() / tokens.max(1);
        let sources = [(&mut gates[..], size), (&mut inputs[..], width)];
        to.compute(&self.kernels, [tokens, size], codes, sources, 8 * size, |_, [gates, inputs], row| {
            gate(self.kernels.isa(), activation, gates, &inputs[layer * size..][..size], row);
        });
    }

    fn head(&mut self, architecture: &Architecture, weights: &Weights, input: &Activations, kept: Kept<'_>) {
        logits::multiply_head(&self.kernels, architecture, weights, input, &mut self.kept, kept);
    }

    fn run_other(
        &mut self,
        block: &OtherBlock<'_>,
        batch: &mut [Step<'_, Self>],
        placements: &Placements,
        input: &mut Activations,
        out: &mut Vec<f32>,
    ) {
        others::run(&self.kernels, block, batch, placements, input, &mut self.others, out);
    }

    fn step_streams(
        &mut self,
        streams: Streams<'_>,
        step: StreamsStep<'_, Vec<f32>, Activations>,
        active: &mut Vec<f32>,
    ) {
        let (kernels, buffers) = (&self.kernels, &mut self.streams);
        let mut streams = NodeStreams { kernels, described: streams, buffers };
        match step {
            StreamsStep::Split(input) => streams.split(active, input),
            StreamsStep::Predict(input) => streams.predict(active, input),
            StreamsStep::Correct(input) => streams.correct(active, input),
            StreamsStep::Add(result, norm) => streams.add(active, result, norm),
            StreamsStep::Keep(nodes) => streams.keep_nodes(nodes),
            StreamsStep::Merge(input) => streams.merge(active, input),
        }
    }
}
