//! Attention of each sequence's nodes over the latent rows in its own cache, in the absorbed form.

use std::ops::Range;

use lookahead_kernels::{
    Activations, Attended, AttentionScratch, AttentionShape, Kernels, RopeTable, attention,
};

use super::attention::gate_heads;
use super::linear::apply;
use super::norm::{normalise, normalise_to};
use crate::architecture::{LatentAttention, Norm};
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::transformer::placements::Placements;
use crate::weights::{LatentWeights, Linear};

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct LatentBuffers {
    /// What queries are made from.
    query_latents: Vec<f32>,
    /// `[node][head][query_dim]`
    queries: Vec<f32>,
    /// `[node][rank + rope_dim]`
    latents: Vec<f32>,
    /// Queries for latent rows: `[node][head][rank + rope_dim]`
    absorbed: Vec<f32>,
    /// What attention makes of latent rows: `[node][head][rank]`
    mixed: Vec<f32>,
    /// `[node][head][value_dim]`
    values: Vec<f32>,
    gates: Vec<f32>,
    /// The input of a head's product, and what comes of it.
    head_input: Activations,
    head_result: Vec<f32>,
    scratch: AttentionScratch,
}

/// A latent attention block of a pass.
pub(super) struct LatentAttentionBlock<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) spec: &'a LatentAttention,
    pub(super) weights: &'a LatentWeights,
    pub(super) norm: Norm,
    pub(super) rope: Option<&'a RopeTable>,
    /// Which of the caches' layers is its own.
    pub(super) kv_layer: usize,
}

impl LatentAttentionBlock<'_> {
    /// `out = output(attention(input))`; `input` is overwritten.
    pub(super) fn run(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &Placements,
        input: &mut Activations,
        buffers: &mut LatentBuffers,
        out: &mut Vec<f32>,
    ) {
        let Self { kernels, spec, weights, norm, .. } = *self;
        let &LatentAttention { heads, rank, plain_dim, rope_dim, value_dim, .. } = spec;
        let LatentBuffers { query_latents, queries, latents, absorbed, mixed, values, gates, .. } = buffers;
        let (head_input, head_result, scratch) =
            (&mut buffers.head_input, &mut buffers.head_result, &mut buffers.scratch);
        let tokens = placements.positions.len();
        match &weights.query_down {
            None => apply(kernels, input, [(&weights.query, queries), (&weights.down, latents)]),
            Some((down, query_norm)) => {
                apply(kernels, input, [(down, query_latents), (&weights.down, latents)]);
                let width = down.matrix.rows();
                let (codes, sources) = (weights.query.input_codes(), [(&mut query_latents[..], width)]);
                head_input.compute(
                    kernels,
                    [tokens, width],
                    codes,
                    sources,
                    3 * width,
                    |_, [latent], row| {
                        normalise_to(kernels.isa(), norm, Some(query_norm), latent, row);
                    },
                );
                apply(kernels, head_input, [(&weights.query, queries)]);
            }
        }
        if let Some(linear) = &weights.gate {
            apply(kernels, input, [(linear, gates)]);
        }
        self.turn(placements, queries, latents);

        let latent_width = rank + rope_dim;
        for (step, nodes) in batch.iter_mut().zip(&placements.sequences) {
            for (node, row) in nodes.clone().enumerate() {
                let latent = &latents[row * latent_width..][..latent_width];
                step.cache.write(self.kv_layer, node, latent, &latent[..rank]);
            }
        }

        // What makes keys of latent rows makes queries for them.
        absorbed.resize(tokens * heads * latent_width, 0.0);
        let mut head = HeadProduct { kernels, tokens, input: head_input, result: head_result };
        let query_width = heads * spec.query_dim();
        for (index, linear) in weights.key_up.iter().enumerate() {
            let query = index * spec.query_dim();
            let products = head.run(linear, queries, query_width, query..query + plain_dim);
            for ((absorbed, product), query_row) in absorbed
                .chunks_exact_mut(heads * latent_width)
                .zip(products.chunks_exact(rank))
                .zip(queries.chunks_exact(query_width))
            {
                let absorbed = &mut absorbed[index * latent_width..][..latent_width];
                absorbed[..rank].copy_from_slice(product);
                absorbed[rank..].copy_from_slice(&query_row[query + plain_dim..][..rope_dim]);
            }
        }

        mixed.resize(tokens * heads * rank, 0.0);
        let shape = AttentionShape {
            heads,
            scale: spec.scale,
            window: None,
            soft_cap: None,
            alibi: false,
            sinks: &[],
        };
        let (batch, visible) = (&*batch, &placements.visible);
        let attended = |sequence: usize| Attended {
            layer: batch[sequence].cache.layer(self.kv_layer),
            visible: &visible[sequence],
        };
        attention(kernels, shape, absorbed, batch.len(), &attended, scratch, mixed);

        let width = heads * value_dim;
        values.resize(tokens * width, 0.0);
        for (index, linear) in weights.value_up.iter().enumerate() {
            let products = head.run(linear, mixed, heads * rank, index * rank..(index + 1) * rank);
            for (values, product) in values.chunks_exact_mut(width).zip(products.chunks_exact(value_dim)) {
                values[index * value_dim..][..value_dim].copy_from_slice(product);
            }
        }
        let codes = weights.output.input_codes();
        let gate_width = if weights.gate.is_some() { heads } else { 0 };
        let sources = [(&mut values[..], width), (&mut gates[..tokens * gate_width], gate_width)];
        input.compute(kernels, [tokens, width], codes, sources, width, |_, [values, gates], row| {
            gate_heads(kernels.isa(), gates, values, row);
        });
        apply(kernels, input, [(&weights.output, out)]);
    }

    /// Normalises latent rows, and turns what belongs to positions.
    fn turn(&self, placements: &Placements, queries: &mut [f32], latents: &mut [f32]) {
        let Self { kernels, spec, weights, norm, rope, .. } = *self;
        let isa = kernels.isa();
        let &LatentAttention { heads, rank, plain_dim, rope_dim, .. } = spec;
        let (query_width, latent_width) = (heads * spec.query_dim(), rank + rope_dim);
        let rows = [(queries, query_width), (latents, latent_width)];
        let tokens = placements.positions.len();
        kernels.for_each_row(tokens, 4 * (query_width + latent_width), rows, |token, [query, latent]| {
            let position = placements.positions[token];
            let (row, key) = latent.split_at_mut(rank);
            normalise(isa, norm, &weights.norm, row);
            let Some(rope) = rope else { return };
            rope.rotate(isa, key, rope_dim, position);
            for head in query.chunks_exact_mut(spec.query_dim()) {
                rope.rotate(isa, &mut head[plain_dim..], rope_dim, position);
            }
        });
    }
}

/// Products of one head.
struct HeadProduct<'a> {
    kernels: &'a Kernels,
    tokens: usize,
    input: &'a mut Activations,
    result: &'a mut Vec<f32>,
}

impl HeadProduct<'_> {
    /// `linear` of the columns `part` of each row of `rows`, which have `width`.
    fn run(&mut self, linear: &Linear, rows: &mut [f32], width: usize, part: Range<usize>) -> &[f32] {
        let Self { kernels, tokens, input, result } = self;
        let shape = [*tokens, part.len()];
        input.compute(kernels, shape, linear.input_codes(), [(rows, width)], part.len(), |_, [from], row| {
            row.copy_from_slice(&from[part.clone()]);
        });
        apply(kernels, input, [(linear, result)]);
        result
    }
}
