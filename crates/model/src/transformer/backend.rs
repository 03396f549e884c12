//! What a device computes: the operators that blocks are made of.
//!
//! Blocks say what is computed, in which order, and with which weights; a device says how. It may keep copies of weights: it finds
//! them by the address of what it is given, which stays the same as long as the model is loaded.

use std::fmt::Debug;
use std::ops::Range;

use lookahead_kernels::{AttentionShape, InputCodes, Kept, KvShape, RopeTable};

use super::placements::Placements;
use super::routing::Route;
use crate::architecture::{AltUp, Architecture, Attention, LatentAttention, Mixer, Mlp, Norm, PerLayer};
use crate::language_model::SequenceStep;
use crate::pass_cache::PassCache;
use crate::weights::{
    AltUpLayerWeights, AltUpWeights, AttentionWeights, LatentWeights, Linear, MixerWeights, NormWeights,
    PerLayerInputsWeights, Weights,
};

/// A device that runs transformers. Operators run one after the other; one that writes rows makes as many of them as it is given.
pub(crate) trait Backend {
    /// Rows of floats, `[node][width]`. Reused between passes.
    type Rows: Debug + Default;
    /// The input of products: rows, in the forms in which products take them. Reused between passes.
    type Input: Debug + Default;
    /// The cache of a sequence.
    type Cache: PassCache;

    /// Writes the embeddings of the nodes' tokens to `stream`. It is the first operator of a pass.
    fn embed(
        &mut self,
        architecture: &Architecture,
        weights: &Weights,
        batch: &[Step<'_, Self>],
        placements: &Placements,
        stream: &mut Self::Rows,
    );

    /// Multiplies `input` with several matrices at once, the results with their factors, and adds their biases.
    fn apply<const N: usize>(&mut self, input: &Self::Input, products: [(&Linear, &mut Self::Rows); N]);

    /// `to = from`
    fn copy(&mut self, from: &Self::Rows, to: &mut Self::Rows);

    /// `to = norm(rows)`
    fn normalise(&mut self, how: Normalised<'_>, rows: &mut Self::Rows, to: &mut Self::Input);

    /// Adds `results` to `stream` as `sum` says, then `to = norm(stream)`.
    fn add_and_normalise(
        &mut self,
        sum: &Sum<'_>,
        how: Normalised<'_>,
        stream: &mut Self::Rows,
        results: &mut [Self::Rows; 2],
        to: &mut Self::Input,
    );

    /// `rows = norm(rows) + input`
    fn normalise_and_add(
        &mut self,
        norm: Norm,
        weights: &NormWeights,
        input: &Self::Input,
        rows: &mut Self::Rows,
    );

    /// Moves the rows of the given nodes, which ascend, to the front and forgets the others.
    fn keep_nodes(&mut self, nodes: &[Range<usize>], rows: &mut Self::Rows, width: usize);

    /// Normalises queries, and keys and values if they are the block's own, and turns the first two to their positions.
    fn turn(
        &mut self,
        block: &AttentionBlock<'_>,
        placements: &Placements,
        queries: &mut Self::Rows,
        keys_and_values: Option<[&mut Self::Rows; 2]>,
    );

    /// Normalises latent rows, and turns what belongs to positions of them and of queries.
    fn turn_latents(
        &mut self,
        block: &LatentBlock<'_>,
        placements: &Placements,
        queries: &mut Self::Rows,
        latents: &mut Self::Rows,
    );

    /// Writes the nodes' keys and values to a layer of their caches. Rows of values may be longer than what is written of them.
    fn store(
        &mut self,
        layer: CacheLayer,
        batch: &mut [Step<'_, Self>],
        placements: &Placements,
        keys_and_values: [&Self::Rows; 2],
    );

    /// Attention of the nodes over what they see of a layer of their caches.
    fn attend(
        &mut self,
        layer: CacheLayer,
        shape: AttentionShape<'_>,
        batch: &[Step<'_, Self>],
        placements: &Placements,
        queries: &Self::Rows,
        out: &mut Self::Rows,
    );

    /// Multiplies a part of each head of `rows`, the first of `parts`, with the head's own map, and writes the result to a part of the
    /// head in `out`, the second. What else there is in `out` stays.
    fn apply_to_heads(
        &mut self,
        maps: &[Linear],
        parts: [HeadParts; 2],
        rows: &mut Self::Rows,
        out: &mut Self::Rows,
    );

    /// Copies a part of each head of `rows`, the first of `parts`, to a part of the head in `out`, the second. What else there is in
    /// `out` stays.
    fn copy_heads(&mut self, parts: [HeadParts; 2], rows: &Self::Rows, out: &mut Self::Rows);

    /// `to = sigmoid(gates) * values`: as many gates as values, or one for each head. Without gates `to = values`. The shape is that of
    /// the values: nodes, and values of a node.
    fn gate_heads(
        &mut self,
        shape: [usize; 2],
        gates: Option<&mut Self::Rows>,
        values: &mut Self::Rows,
        codes: InputCodes,
        to: &mut Self::Input,
    );

    /// `to = activation(gates) * ups`, or without gates `to = activation(ups)`; perhaps only of what stands out.
    fn activate(
        &mut self,
        spec: &Mlp,
        gates: Option<&mut Self::Rows>,
        ups: &mut Self::Rows,
        codes: InputCodes,
        to: &mut Self::Input,
    );

    /// Moves rows to where blocks see them. What was computed before stays; the rows themselves may be gone.
    fn read_back<const N: usize>(&mut self, rows: [(&mut Self::Rows, &mut Vec<f32>); N]);

    /// `rows = 0`, as many and as wide as those of `like`.
    fn zero(&mut self, like: &Self::Input, rows: &mut Self::Rows);

    /// `to = weight * (scales * from)`, a row for each route: that of its token.
    fn gather(&mut self, gathered: &Gathered<'_>, from: &Self::Input, to: &mut Self::Input);

    /// `to[row] += factor * from`, for each row of `from` the row and the factor that `rows` gives next; no row twice.
    fn add_rows(
        &mut self,
        rows: impl Iterator<Item = (usize, f32)>,
        width: usize,
        from: &Self::Rows,
        to: &mut Self::Rows,
    );

    /// `inputs = (norm(inputs / sqrt(hidden)) + embedding(token) * sqrt(size)) / sqrt(2)`, part by part: what layers are given of the
    /// nodes' tokens besides the residual stream.
    fn add_layer_embeddings(
        &mut self,
        architecture: &Architecture,
        weights: &PerLayerInputsWeights,
        batch: &[Step<'_, Self>],
        inputs: &mut Self::Rows,
    );

    /// `to = activation(gates) * inputs`, the layer's part of them.
    fn gate_layer_inputs(
        &mut self,
        spec: &PerLayer,
        gates: &mut Self::Rows,
        inputs: &mut Self::Rows,
        codes: InputCodes,
        to: &mut Self::Input,
    );

    /// Multiplies `input` with the output head, makes logits of it, and writes of them what is to be kept.
    fn head(&mut self, architecture: &Architecture, weights: &Weights, input: &Self::Input, kept: Kept<'_>);

    /// Runs a block that keeps states of recurrent layers, which the CPU computes whatever the device. `input` is overwritten.
    fn run_other(
        &mut self,
        block: &OtherBlock<'_>,
        batch: &mut [Step<'_, Self>],
        placements: &Placements,
        input: &mut Self::Input,
        out: &mut Self::Rows,
    );

    /// Takes several residual streams a step on; `active` is the one that blocks add to.
    fn step_streams(
        &mut self,
        streams: Streams<'_>,
        step: StreamsStep<'_, Self::Rows, Self::Input>,
        active: &mut Self::Rows,
    );
}

/// One sequence's part of a pass on a device.
pub(crate) type Step<'a, B> = SequenceStep<'a, <B as Backend>::Cache>;

/// What is made of rows for products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normalised<'a> {
    /// Rows, and values of a row.
    pub(super) shape: [usize; 2],
    pub(super) norm: Norm,
    /// The rows stay as they are if `None`.
    pub(super) weights: Option<&'a NormWeights>,
    /// The quantized forms that are needed.
    pub(super) codes: InputCodes,
}

/// What is added to the residual stream: `stream += scale * post_norm(result)` for each result, or
/// `stream += scale * joint_norm(sum of post_norm(result))`, then `stream *= stream_scale`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum<'a> {
    /// How many of the results there are: those of the last block and of the one beside it.
    pub(super) results: usize,
    pub(super) post_norms: [Option<&'a NormWeights>; 2],
    pub(super) joint_norm: Option<&'a NormWeights>,
    pub(super) scale: f32,
    pub(super) stream_scale: f32,
}

/// An attention block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionBlock<'a> {
    pub(super) spec: &'a Attention,
    pub(super) weights: &'a AttentionWeights,
    /// Of queries, keys and values.
    pub(super) norm: Norm,
    pub(super) rope: Option<&'a RopeTable>,
    /// Which of the caches' layers it sees.
    pub(super) kv_layer: usize,
}

impl<'a> AttentionBlock<'a> {
    /// The layer that it sees.
    pub(super) fn cache_layer(&self) -> CacheLayer {
        CacheLayer { index: self.kv_layer, shape: self.spec.kv_shape() }
    }

    /// How queries see it.
    pub(super) fn shape(&self) -> AttentionShape<'a> {
        let &Attention { heads, scale, window, soft_cap, alibi, .. } = self.spec;
        AttentionShape { heads, scale, window, soft_cap, alibi, sinks: &self.weights.sinks }
    }
}

/// A latent attention block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatentBlock<'a> {
    pub(super) spec: &'a LatentAttention,
    pub(super) weights: &'a LatentWeights,
    /// Of latent rows.
    pub(super) norm: Norm,
    pub(super) rope: Option<&'a RopeTable>,
    /// Which of the caches' layers is its own.
    pub(super) kv_layer: usize,
}

impl LatentBlock<'_> {
    /// Its layer.
    pub(super) fn cache_layer(&self) -> CacheLayer {
        CacheLayer { index: self.kv_layer, shape: self.spec.kv_shape() }
    }

    /// How queries for latent rows see it.
    pub(super) fn shape(&self) -> AttentionShape<'static> {
        let &LatentAttention { heads, scale, .. } = self.spec;
        AttentionShape { heads, scale, window: None, soft_cap: None, alibi: false, sinks: &[] }
    }
}

/// A layer of the caches that has rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheLayer {
    /// Which of them.
    pub(super) index: usize,
    pub(super) shape: KvShape,
}

/// A part of each head of rows, `[node][head][head_dim]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadParts {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    /// Its first column in a head, and its columns.
    pub(super) first: usize,
    pub(super) width: usize,
}

impl HeadParts {
    /// Values of a row.
    pub(super) fn row_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The columns of a row that are the part of head `head`.
    pub(super) fn of_head(&self, head: usize) -> Range<usize> {
        let first = head * self.head_dim + self.first;
        first..first + self.width
    }
}

/// What an expert is given of its tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered<'a> {
    pub(super) routes: &'a [Route],
    /// Factors on each column; empty if there are none.
    pub(super) scales: &'a [f32],
    /// Whether rows are multiplied with the routes' weights.
    pub(super) weighs_inputs: bool,
    /// The quantized forms that are needed.
    pub(super) codes: InputCodes,
}

/// A block that keeps states of recurrent layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OtherBlock<'a> {
    pub(super) mixer: &'a Mixer,
    pub(super) weights: &'a MixerWeights,
    pub(super) norm: Norm,
    /// Which of the caches' layers is its own, with states.
    pub(super) layer: usize,
}

/// Several residual streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams<'a> {
    pub(super) spec: &'a AltUp,
    pub(super) weights: &'a AltUpWeights,
    pub(super) norm: Norm,
    pub(super) hidden: usize,
    /// Which of the model's layers computes.
    pub(super) layer: usize,
}

impl<'a> Streams<'a> {
    /// The weights of the layer that computes.
    pub(super) fn layer(&self) -> &'a AltUpLayerWeights {
        &self.weights.layers[self.layer]
    }
}

/// What becomes of several residual streams.
#[derive(Debug)]
pub(crate) enum StreamsStep<'a, Rows, Input> {
    /// They are made of what enters the first layer; the input is scratch.
    Split(&'a mut Input),
    /// They become what the layer predicts; the input is what its router is given of the active one.
    Predict(&'a Input),
    /// They are corrected by what the layer has made of the active one; the input is what its router is given of that.
    Correct(&'a Input),
    /// The result of a block, perhaps normalised, is added to all but the first.
    Add(&'a mut Rows, Option<&'a NormWeights>),
    /// All nodes but these are forgotten.
    Keep(&'a [Range<usize>]),
    /// They become one, the active one; the input is scratch.
    Merge(&'a mut Input),
}
