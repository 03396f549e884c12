//! Attention of each sequence's nodes over its own cache.

use lookahead_kernels::{
    Activation, Activations, Attended, AttentionScratch, AttentionShape, Isa, Kernels, RopeTable, attention,
    gate, scale, sigmoid,
};

use super::linear::apply;
use super::norm::normalise_heads;
use super::placements::Placements;
use crate::architecture::{Attention, Norm};
use crate::kv_cache::KvCache;
use crate::language_model::SequenceStep;
use crate::weights::AttentionWeights;

/// Memory of the block, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct AttentionBuffers {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// What attention makes of the values.
    mixed: Vec<f32>,
    gates: Vec<f32>,
    scratch: AttentionScratch,
}

/// An attention block of a pass.
pub(super) struct AttentionBlock<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) spec: &'a Attention,
    pub(super) weights: &'a AttentionWeights,
    pub(super) norm: Norm,
    pub(super) rope: Option<&'a RopeTable>,
    /// Which of the caches' layers is its own.
    pub(super) kv_layer: usize,
}

impl AttentionBlock<'_> {
    /// `out = output(attention(input))`; `input` is overwritten.
    pub(super) fn run(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &Placements,
        input: &mut Activations,
        buffers: &mut AttentionBuffers,
        out: &mut Vec<f32>,
    ) {
        let Self { kernels, spec, weights, .. } = *self;
        let AttentionBuffers { queries, keys, values, mixed, gates, scratch } = buffers;
        match &weights.keys_and_values[..] {
            [key, value] => {
                apply(kernels, input, [(&weights.query, queries), (key, keys), (value, values)]);
            }
            [both] => {
                apply(kernels, input, [(&weights.query, queries), (both, keys)]);
                values.clone_from(keys);
            }
            _ => apply(kernels, input, [(&weights.query, queries)]),
        }
        let gate_width = match (spec.gate, &weights.gate) {
            (Some(gate), Some(linear)) => {
                apply(kernels, input, [(linear, gates)]);
                gate.factors(spec)
            }
            _ => 0,
        };
        let is_own = !weights.keys_and_values.is_empty();
        let (keys, values) = if is_own { (&mut keys[..], &mut values[..]) } else { Default::default() };
        self.turn(placements, queries, keys, values);

        let shape = AttentionShape {
            heads: spec.heads,
            scale: spec.scale,
            window: spec.window,
            soft_cap: spec.soft_cap,
            alibi: spec.alibi,
            sinks: &weights.sinks,
        };
        let width = spec.heads * spec.value_dim;
        let (key_width, value_width) = (spec.kv_heads * spec.key_dim, spec.kv_heads * spec.value_dim);
        let tokens = placements.positions.len();
        mixed.resize(tokens * width, 0.0);
        for (step, nodes) in batch.iter_mut().zip(&placements.sequences).filter(|_| is_own) {
            for (node, row) in nodes.clone().enumerate() {
                let key = &keys[row * key_width..][..key_width];
                let value = &values[row * value_width..][..value_width];
                step.cache.write(self.kv_layer, node, key, value);
            }
        }
        let (batch, visible) = (&*batch, &placements.visible);
        let attended = |sequence: usize| Attended {
            layer: batch[sequence].cache.layer(self.kv_layer),
            visible: &visible[sequence],
        };
        attention(kernels, shape, queries, batch.len(), &attended, scratch, mixed);
        let codes = weights.output.input_codes();
        let sources = [(&mut mixed[..], width), (&mut gates[..tokens * gate_width], gate_width)];
        input.compute(kernels, [tokens, width], codes, sources, width, |_, [mixed, gates], row| {
            gate_heads(kernels.isa(), gates, mixed, row);
        });
        apply(kernels, input, [(&weights.output, out)]);
    }

    /// Normalises queries, keys and values, and turns the first two to their positions. There may be no keys and values.
    fn turn(&self, placements: &Placements, queries: &mut [f32], keys: &mut [f32], values: &mut [f32]) {
        let Self { kernels, spec, weights, norm, rope, .. } = *self;
        let isa = kernels.isa();
        let tokens = placements.positions.len();
        let [query_width, key_width, value_width] =
            [&*queries, &*keys, &*values].map(|rows| rows.len() / tokens.max(1));
        let rows = [(queries, query_width), (keys, key_width), (values, value_width)];
        kernels.for_each_row(tokens, 4 * (query_width + key_width), rows, |token, [query, key, value]| {
            if let (Some(kind), Some(weights)) = (spec.value_norm, &weights.value_norm) {
                normalise_heads(isa, norm, kind, weights, spec.value_dim, value);
            }
            let position = placements.positions[token];
            let normalise = |rows: [&mut [f32]; 2]| {
                if let Some(kind) = spec.qk_norm {
                    for (row, weights) in rows.into_iter().zip(&weights.qk_norms) {
                        normalise_heads(isa, norm, kind, weights, spec.key_dim, row);
                    }
                }
            };
            if !spec.norm_is_behind_rope {
                normalise([&mut *query, &mut *key]);
            }
            if let Some(rope) = rope {
                for row in [&mut *query, &mut *key] {
                    rope.rotate(isa, row, spec.key_dim, position);
                }
            }
            if spec.norm_is_behind_rope {
                normalise([&mut *query, &mut *key]);
            }
            if let Some(factor) =
                spec.query_scale.map(|scale| scale.at(position)).filter(|&factor| factor != 1.0)
            {
                scale(isa, query, factor);
            }
        });
    }
}

/// `row = sigmoid(gates) * values`; there are as many gates as values, or one for each head, or none.
pub(super) fn gate_heads(isa: Isa, gates: &[f32], values: &[f32], row: &mut [f32]) {
    if gates.len() == values.len() {
        return gate(isa, Activation::Sigmoid, gates, values, row);
    }
    row.copy_from_slice(values);
    let head_dim = values.len() / gates.len().max(1);
    for (head, gate) in row.chunks_exact_mut(head_dim).zip(gates) {
        scale(isa, head, sigmoid(*gate));
    }
}
