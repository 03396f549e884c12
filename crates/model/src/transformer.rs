//! The forward pass: token trees of a batch of sequences through the layers of a transformer.
//!
//! All sequences' nodes are rows of the same matrix products, so that every weight is read once for all of them;
//! attention looks at each sequence's own cache. It reads like the formulas of the architecture, and knows no families.

mod experts;

use std::ops::Range;
use std::sync::Arc;

use lookahead_kernels::{
    Activations, AttentionScratch, AttentionShape, Isa, KeptScratch, Kernels, KvType, Matrix, RopeTable,
    VisibleRows, WeightType, activate, add, add_scaled, attention, gate, layer_norm_in_place, multiply,
    multiply_kept, rms_norm, rms_norm_in_place, scale, soft_cap,
};

use crate::architecture::{Architecture, FeedForward, Layer, Mlp, Norm, NormKind, QkNorm, Wiring};
use crate::kv_pool::KvPool;
use crate::model_files::ModelFiles;
use crate::transformer::experts::Routing;
use crate::weights::{FeedForwardWeights, LayerWeights, Linear, MlpWeights, NormWeights, Weights};
use crate::{
    Accepted, Cache, CacheMemory, ForwardError, KvCache, LanguageModel, LoadError, Logits, OutOfCacheMemory,
    SequenceStep, TokenTree,
};

/// A model on the CPU.
#[derive(Debug)]
pub struct CpuModel {
    architecture: Arc<Architecture>,
    weights: Arc<Weights>,
    kernels: Kernels,
    kv_pool: Arc<KvPool>,
    ropes: Vec<RopeTable>,
    buffers: Buffers,
}

/// Intermediate values of a pass, kept for the next one.
#[derive(Debug, Default)]
struct Buffers {
    placements: Placements,
    /// The residual stream: `[node][hidden]`.
    residual: Vec<f32>,
    /// What the last block adds to it; empty before the first.
    result: Vec<f32>,
    /// What the feed-forward network beside it adds, where blocks stand side by side; else empty.
    parallel: Vec<f32>,
    /// The input of the next matrix product.
    input: Activations,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// What attention makes of the values.
    mixed: Vec<f32>,
    hidden: HiddenLayer,
    routing: Routing,
    scratch: AttentionScratch,
    kept: KeptScratch,
}

/// The hidden layer of a feed-forward network.
#[derive(Debug, Default)]
struct HiddenLayer {
    gate: Vec<f32>,
    up: Vec<f32>,
    /// The input of the product behind it.
    input: Activations,
}

/// Where the nodes of a pass stand.
#[derive(Debug, Default)]
struct Placements {
    /// The nodes of each sequence.
    sequences: Vec<Range<usize>>,
    /// The position of each node.
    positions: Vec<usize>,
    /// For each sequence, the cache rows that its nodes see. There may be more entries than sequences.
    visible: Vec<VisibleRows>,
    /// A node's path.
    path: Vec<u32>,
}

impl CpuModel {
    /// Loads the model of `files`, a GGUF file or a checkpoint, to run on `kernels`.
    ///
    /// # Errors
    /// If the files are no complete model of a known architecture.
    pub fn load<'a>(files: impl Into<ModelFiles<'a>>, kernels: Kernels) -> Result<Self, LoadError> {
        Self::load_quantized(files, kernels, None)
    }

    /// The same with dense matrices made into `quantize`, one of [`WeightType::WRITABLE`]: the embedding and the output head
    /// into `Q8_0` at least, as are rows that are no whole blocks of it; what chooses experts stays as it is.
    ///
    /// # Errors
    /// As [`CpuModel::load`].
    ///
    /// # Panics
    /// If `quantize` is none of those.
    pub fn load_quantized<'a>(
        files: impl Into<ModelFiles<'a>>,
        kernels: Kernels,
        quantize: Option<WeightType>,
    ) -> Result<Self, LoadError> {
        assert!(quantize.is_none_or(|to| WeightType::WRITABLE.contains(&to)), "a type that is written");
        let files = files.into();
        let (architecture, layout) = Architecture::describe(files)?;
        let weights = Weights::load(files, &layout, &architecture, &kernels, quantize)?;
        let kv_pool = Arc::new(KvPool::new(&architecture, KvType::default(), None));
        Ok(Self::assemble(Arc::new(architecture), Arc::new(weights), kernels, kv_pool))
    }

    /// The same model on other kernels; the weights and the memory for KV caches are shared.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        let kv_pool = Arc::clone(&self.kv_pool);
        Self::assemble(Arc::clone(&self.architecture), Arc::clone(&self.weights), kernels, kv_pool)
    }

    /// The same model with KV caches of another type. Logits are a pure function of the tokens for each type.
    #[must_use]
    pub fn with_kv_type(self, kv_type: KvType) -> Self {
        let kv_pool = Arc::new(KvPool::new(&self.architecture, kv_type, self.kv_pool.max_bytes()));
        Self { kv_pool, ..self }
    }

    /// The same model with at most `bytes` bytes for all KV caches together, in whole pages of
    /// [`PAGE_ROWS`](lookahead_kernels::PAGE_ROWS) tokens. Without a bound, they take what the system gives.
    #[must_use]
    pub fn with_kv_memory(self, bytes: usize) -> Self {
        let kv_pool = Arc::new(KvPool::new(&self.architecture, self.kv_type(), Some(bytes)));
        Self { kv_pool, ..self }
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_pool.kv_type()
    }

    fn assemble(
        architecture: Arc<Architecture>,
        weights: Arc<Weights>,
        kernels: Kernels,
        kv_pool: Arc<KvPool>,
    ) -> Self {
        let ropes = architecture.ropes.iter().zip(&weights.rope_factors);
        let ropes = ropes.map(|(rope, factors)| rope.table(factors.as_deref())).collect();
        Self { architecture, weights, kernels, kv_pool, ropes, buffers: Buffers::default() }
    }

    /// What the model consists of.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What the model runs on.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Bytes of the weight matrices that a forward pass over one token reads: all but an embedding that is not the output
    /// head as well, of which a pass reads a row a token, and experts that the token does not take.
    pub fn weight_bytes(&self) -> usize {
        self.weights.matrices(&self.architecture).map(Matrix::bytes).sum()
    }

    /// Multiply-adds of one token with the weight matrices, logits included: in integers, and in floats.
    pub fn macs_per_token(&self) -> [usize; 2] {
        let mut macs = [0; 2];
        for matrix in self.weights.matrices(&self.architecture) {
            macs[usize::from(!matrix.weight_type().is_quantized())] += matrix.rows() * matrix.columns();
        }
        macs
    }

    /// Bytes of the KV cache for one token.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.architecture.kv_bytes_per_token(self.kv_type())
    }

    /// The positions that there are embeddings for; without learned ones, there is no end.
    fn positions(&self) -> usize {
        match (&self.weights.positions, self.architecture.embedding.first_position) {
            (Some(table), Some(first)) => table.rows().saturating_sub(first),
            _ => usize::MAX,
        }
    }

    fn check(&self, batch: &[SequenceStep<'_, KvCache>]) -> Result<(), ForwardError> {
        let vocabulary_size = self.vocabulary_size();
        for step in batch {
            if let Some(&token) = step.tree.tokens().iter().find(|&&token| token as usize >= vocabulary_size)
            {
                return Err(ForwardError::UnknownToken { token, vocabulary_size });
            }
            let capacity = step.cache.capacity().min(self.positions());
            let (committed, new) = (step.cache.len(), step.tree.len());
            if new > capacity.saturating_sub(committed) {
                return Err(ForwardError::CacheFull { capacity, committed, new });
            }
        }
        Ok(())
    }
}

impl LanguageModel for CpuModel {
    type Cache = KvCache;

    fn vocabulary_size(&self) -> usize {
        self.weights.head().rows()
    }

    fn context_length(&self) -> usize {
        self.architecture.context_length.min(self.positions())
    }

    fn new_cache(&self, capacity: usize) -> KvCache {
        KvCache::new(Arc::clone(&self.kv_pool), capacity)
    }

    fn cache_memory(&self) -> CacheMemory {
        self.kv_pool.memory()
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, KvCache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        self.check(batch)?;
        reserve(batch)?;
        let Self { architecture, weights, kernels, ropes, buffers, .. } = self;
        buffers.placements.place(batch, ropes);
        embed(kernels, architecture, weights, batch, buffers);
        buffers.result.clear();
        buffers.parallel.clear();
        let mut post_norm = None;
        for (index, (layer, weights)) in architecture.layers.iter().zip(&weights.layers).enumerate() {
            let pass = LayerPass { kernels, architecture, index, layer, weights };
            pass.attend(batch, layer.attention.rope.map(|rope| &ropes[rope]), post_norm, buffers);
            pass.feed_forward(buffers);
            post_norm = weights.post_norms.as_ref().map(|norms| &norms[1]);
        }
        write_logits(kernels, architecture, weights, batch, post_norm, buffers, logits);
        Ok(())
    }

    fn commit(&mut self, batch: &mut [Accepted<'_, KvCache>]) {
        for Accepted { cache, path } in batch {
            cache.commit(path);
        }
    }
}

/// Takes the memory that the pass needs, or none if there is not enough for all.
fn reserve(batch: &mut [SequenceStep<'_, KvCache>]) -> Result<(), OutOfCacheMemory> {
    let Some((step, others)) = batch.split_first_mut() else { return Ok(()) };
    let pages = step.cache.pages();
    step.cache.reserve(step.tree.len())?;
    reserve(others).inspect_err(|_| step.cache.keep_pages(pages))
}

impl Placements {
    /// Finds out where each node stands, and begins the pass in the caches.
    fn place(&mut self, batch: &mut [SequenceStep<'_, KvCache>], ropes: &mut [RopeTable]) {
        self.sequences.clear();
        self.positions.clear();
        if self.visible.len() < batch.len() {
            self.visible.resize_with(batch.len(), VisibleRows::default);
        }
        for (SequenceStep { tree, cache, .. }, visible) in batch.iter_mut().zip(&mut self.visible) {
            cache.begin(tree.len());
            let first = self.positions.len();
            self.positions.extend(tree.depths().iter().map(|&depth| cache.len() + depth as usize));
            self.sequences.push(first..self.positions.len());
            visible.clear();
            for node in 0..tree.len() {
                see_path(tree, node, cache.len(), &mut self.path, visible);
            }
        }
        let longest = self.positions.iter().max().map_or(0, |last| last + 1);
        for rope in ropes {
            rope.reserve(longest);
        }
    }
}

/// Adds to `visible` the rows that `node` sees: the `context` rows before the tree and its path. The part of a path
/// that numbers its nodes in order, as all of a chain does, extends the context.
fn see_path(tree: &TokenTree, node: usize, context: usize, path: &mut Vec<u32>, visible: &mut VisibleRows) {
    let depth = tree.depths()[node] as usize;
    path.clear();
    let mut ancestor = node as u32;
    // Where a node's number is its depth, so are those of its ancestors.
    while ancestor != tree.depths()[ancestor as usize] {
        path.push(ancestor + context as u32);
        ancestor = tree.parents()[ancestor as usize];
    }
    let in_order = depth + 1 - path.len();
    visible.push(context + in_order, path.iter().rev().copied());
}

/// The embeddings of the batch's tokens, as they enter the first layer.
fn embed(
    kernels: &Kernels,
    architecture: &Architecture,
    weights: &Weights,
    batch: &[SequenceStep<'_, KvCache>],
    buffers: &mut Buffers,
) {
    let (hidden, embedding) = (architecture.hidden_size, &architecture.embedding);
    let Buffers { residual, result: position_row, placements, .. } = buffers;
    residual.resize(placements.positions.len() * hidden, 0.0);
    let tokens = batch.iter().flat_map(|step| step.tree.tokens());
    for ((row, &token), position) in residual.chunks_exact_mut(hidden).zip(tokens).zip(&placements.positions)
    {
        weights.embedding.dequantize_row(token as usize, row);
        if embedding.scale != 1.0 {
            scale(kernels.isa(), row, embedding.scale);
        }
        if let (Some(positions), Some(first)) = (&weights.positions, embedding.first_position) {
            position_row.resize(hidden, 0.0);
            positions.dequantize_row(first + position, position_row);
            add(kernels.isa(), row, position_row);
        }
        if let Some(norm) = &weights.embedding_norm {
            normalise_row(kernels.isa(), architecture.norm, norm, row);
        }
    }
}

/// What the two blocks of a layer need.
struct LayerPass<'a> {
    kernels: &'a Kernels,
    architecture: &'a Architecture,
    index: usize,
    layer: &'a Layer,
    weights: &'a LayerWeights,
}

impl LayerPass<'_> {
    /// `result = output(attention(norm(residual)))`; `post_norm` is that of the block before.
    fn attend(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        rope: Option<&RopeTable>,
        post_norm: Option<&NormWeights>,
        buffers: &mut Buffers,
    ) {
        let Self { kernels, architecture, weights, .. } = *self;
        let codes = [&weights.query, &weights.key, &weights.value].map(needs_codes).contains(&true);
        let step = NormStep { architecture, norm: weights.attention_norm.as_ref(), codes };
        step.add_and_normalise(kernels, post_norm, buffers);
        let Buffers { placements, input, queries, keys, values, mixed, result, scratch, .. } = buffers;
        apply(kernels, input, [(&weights.query, queries), (&weights.key, keys), (&weights.value, values)]);

        let spec = &self.layer.attention;
        let (width, kv_width) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let tokens = placements.positions.len();
        let rows = [(&mut queries[..], width), (&mut keys[..], kv_width)];
        kernels.for_each_row(tokens, 4 * (width + kv_width), rows, |token, [query, key]| {
            if let (Some(kind), Some(norms)) = (spec.qk_norm, &weights.qk_norms) {
                for (row, norm) in [&mut *query, &mut *key].into_iter().zip(norms) {
                    normalise_heads(kernels.isa(), architecture.norm, kind, norm, spec.head_dim, row);
                }
            }
            if let Some(rope) = rope {
                for row in [query, key] {
                    rope.rotate(kernels.isa(), row, spec.head_dim, placements.positions[token]);
                }
            }
        });

        let shape = AttentionShape {
            heads: spec.heads,
            scale: spec.scale,
            window: spec.window,
            soft_cap: spec.soft_cap,
            alibi: spec.alibi,
        };
        let codes = needs_codes(&weights.attention_output);
        mixed.resize(tokens * width, 0.0);
        let sequences = batch.iter_mut().zip(&placements.sequences).zip(&placements.visible);
        for ((step, nodes), visible) in sequences {
            for (node, row) in nodes.clone().enumerate() {
                let kv = row * kv_width..(row + 1) * kv_width;
                step.cache.write(self.index, node, &keys[kv.clone()], &values[kv]);
            }
            let rows = nodes.start * width..nodes.end * width;
            let layer = step.cache.layer(self.index);
            attention(kernels, shape, &queries[rows.clone()], layer, visible, scratch, &mut mixed[rows]);
        }
        input.compute(kernels, [tokens, width], codes, [(mixed, width)], width, |_, [mixed], row| {
            row.copy_from_slice(mixed);
        });
        apply(kernels, input, [(&weights.attention_output, result)]);
    }

    /// `result = network(norm(residual))`, or `parallel` of the residual stream that attention saw.
    fn feed_forward(&self, buffers: &mut Buffers) {
        let Self { kernels, architecture, weights, layer, .. } = *self;
        let codes = match &weights.feed_forward {
            FeedForwardWeights::Dense(mlp) => mlp.needs_codes(),
            FeedForwardWeights::Experts(experts) => experts.needs_codes(),
        };
        let is_shared = layer.wiring == Wiring::Parallel;
        let norm = if is_shared { &weights.attention_norm } else { &weights.feed_forward_norm };
        let step = NormStep { architecture, norm: norm.as_ref(), codes };
        if layer.wiring.is_parallel() {
            step.normalise(kernels, buffers);
        } else {
            let post_norm = weights.post_norms.as_ref().map(|norms| &norms[0]);
            step.add_and_normalise(kernels, post_norm, buffers);
        }
        let Buffers { input, hidden, routing, result, parallel, .. } = buffers;
        let out = if layer.wiring.is_parallel() { parallel } else { result };
        match (&layer.feed_forward, &weights.feed_forward) {
            (FeedForward::Dense(spec), FeedForwardWeights::Dense(mlp)) => {
                run_mlp(kernels, spec, mlp, input, hidden, out);
            }
            (FeedForward::Experts(spec), FeedForwardWeights::Experts(experts)) => {
                routing.run(kernels, spec, experts, input, hidden, out);
            }
            _ => unreachable!("weights are loaded as the architecture says"),
        }
    }
}

/// `out = down(activation(gate(input)) * up(input))`, or without a gate `out = down(activation(up(input)))`.
fn run_mlp(
    kernels: &Kernels,
    spec: &Mlp,
    weights: &MlpWeights,
    input: &Activations,
    hidden: &mut HiddenLayer,
    out: &mut Vec<f32>,
) {
    let HiddenLayer { gate: gates, up: ups, input: down_input } = hidden;
    let (shape, activation) = ([input.tokens(), spec.size], spec.activation);
    let codes = needs_codes(&weights.down);
    if let Some(gate_weights) = &weights.gate {
        apply(kernels, input, [(gate_weights, gates), (&weights.up, ups)]);
        let sources = [(&mut gates[..], spec.size), (&mut ups[..], spec.size)];
        down_input.compute(kernels, shape, codes, sources, 8 * spec.size, |_, [gates, ups], row| {
            gate(kernels.isa(), activation, gates, ups, row);
        });
    } else {
        apply(kernels, input, [(&weights.up, ups)]);
        let sources = [(&mut ups[..], spec.size)];
        down_input.compute(kernels, shape, codes, sources, 8 * spec.size, |_, [ups], row| {
            activate(kernels.isa(), activation, ups, row);
        });
    }
    apply(kernels, down_input, [(&weights.down, out)]);
}

/// Whether the linear map is computed in integers.
fn needs_codes(linear: &Linear) -> bool {
    linear.matrix.weight_type().is_quantized()
}

impl MlpWeights {
    fn needs_codes(&self) -> bool {
        needs_codes(&self.up) || self.gate.as_ref().is_some_and(needs_codes)
    }
}

fn normalise_row(isa: Isa, norm: Norm, weights: &NormWeights, row: &mut [f32]) {
    match norm.kind {
        NormKind::Rms => rms_norm_in_place(isa, row, &weights.weight, norm.epsilon),
        NormKind::Layer => layer_norm_in_place(isa, row, &weights.weight, &weights.bias, norm.epsilon),
    }
}

/// Normalises queries or keys of a node.
fn normalise_heads(
    isa: Isa,
    norm: Norm,
    kind: QkNorm,
    weights: &NormWeights,
    head_dim: usize,
    row: &mut [f32],
) {
    match kind {
        QkNorm::Whole => normalise_row(isa, norm, weights, row),
        QkNorm::Heads => {
            for head in row.chunks_exact_mut(head_dim) {
                normalise_row(isa, norm, weights, head);
            }
        }
        QkNorm::EachHead => {
            for (head, weight) in row.chunks_exact_mut(head_dim).zip(weights.weight.chunks_exact(head_dim)) {
                match norm.kind {
                    NormKind::Rms => rms_norm_in_place(isa, head, weight, norm.epsilon),
                    NormKind::Layer => layer_norm_in_place(isa, head, weight, &[], norm.epsilon),
                }
            }
        }
    }
}

/// How the residual stream becomes the input of a block.
struct NormStep<'a> {
    architecture: &'a Architecture,
    /// None leaves it as it is.
    norm: Option<&'a NormWeights>,
    /// Whether the input is needed in integers.
    codes: bool,
}

impl NormStep<'_> {
    /// `residual += post_norm(result)` with the results of the blocks before, if any, then `input = norm(residual)`.
    fn add_and_normalise(&self, kernels: &Kernels, post_norm: Option<&NormWeights>, buffers: &mut Buffers) {
        let Buffers { residual, result, parallel, input, .. } = buffers;
        let hidden = self.architecture.hidden_size;
        let shape = [residual.len() / hidden, hidden];
        let widths = [&*result, &*parallel].map(|result| if result.is_empty() { 0 } else { hidden });
        let sources =
            [(&mut residual[..], hidden), (&mut result[..], widths[0]), (&mut parallel[..], widths[1])];
        input.compute(
            kernels,
            shape,
            self.codes,
            sources,
            3 * hidden,
            |_, [residual, result, parallel], row| {
                for result in [result, parallel] {
                    if !result.is_empty() {
                        if let Some(norm) = post_norm {
                            normalise_row(kernels.isa(), self.architecture.norm, norm, result);
                        }
                        self.add(kernels.isa(), residual, result);
                    }
                }
                self.write(kernels.isa(), residual, row);
            },
        );
        buffers.parallel.clear();
    }

    /// `input = norm(residual)`
    fn normalise(&self, kernels: &Kernels, buffers: &mut Buffers) {
        let Buffers { residual, input, .. } = buffers;
        let hidden = self.architecture.hidden_size;
        let shape = [residual.len() / hidden, hidden];
        let sources = [(&mut residual[..], hidden)];
        input.compute(kernels, shape, self.codes, sources, 3 * hidden, |_, [residual], row| {
            self.write(kernels.isa(), residual, row);
        });
    }

    fn add(&self, isa: Isa, residual: &mut [f32], result: &[f32]) {
        if self.architecture.residual_scale == 1.0 {
            add(isa, residual, result);
        } else {
            add_scaled(isa, residual, result, self.architecture.residual_scale);
        }
    }

    fn write(&self, isa: Isa, residual: &[f32], row: &mut [f32]) {
        let norm = self.architecture.norm;
        match self.norm {
            Some(weights) if norm.kind == NormKind::Rms => {
                rms_norm(isa, residual, &weights.weight, norm.epsilon, row);
            }
            weights => {
                row.copy_from_slice(residual);
                if let Some(weights) = weights {
                    normalise_row(isa, norm, weights, row);
                }
            }
        }
    }
}

/// Multiplies `input` with several matrices at once and adds their biases.
fn apply<const N: usize>(
    kernels: &Kernels,
    input: &Activations,
    mut products: [(&Linear, &mut Vec<f32>); N],
) {
    let tokens = input.tokens();
    for (linear, out) in &mut products {
        out.resize(tokens * linear.matrix.rows(), 0.0);
    }
    let outputs: [(&Matrix, &mut [f32]); N] =
        products.each_mut().map(|(linear, out)| (&linear.matrix, out.as_mut_slice()));
    multiply(kernels, input, outputs);
    for (linear, out) in products {
        if let Some(bias) = &linear.bias {
            kernels.for_each_row(tokens, bias.len(), [(out, bias.len())], |_, [row]| {
                add(kernels.isa(), row, bias);
            });
        }
    }
}

/// Normalises the asked nodes' rows and multiplies them with the output head.
fn write_logits(
    kernels: &Kernels,
    architecture: &Architecture,
    weights: &Weights,
    batch: &[SequenceStep<'_, KvCache>],
    post_norm: Option<&NormWeights>,
    buffers: &mut Buffers,
    logits: &mut Logits,
) {
    let hidden = architecture.hidden_size;
    let mut asked = 0;
    for (step, nodes) in batch.iter().zip(&buffers.placements.sequences) {
        let nodes = step.asked().start + nodes.start..step.asked().end + nodes.start;
        for values in [&mut buffers.residual, &mut buffers.result, &mut buffers.parallel] {
            if !values.is_empty() {
                values.copy_within(nodes.start * hidden..nodes.end * hidden, asked * hidden);
            }
        }
        asked += nodes.len();
    }
    buffers.residual.truncate(asked * hidden);
    buffers.result.truncate(asked * hidden);
    buffers.parallel.truncate(asked * hidden);
    let head = weights.head();
    let bias = weights.output.as_ref().and_then(|output| output.bias.as_ref());
    let finish = |rows: Range<usize>, logits: &mut [f32]| {
        if let Some(bias) = bias {
            add(kernels.isa(), logits, &bias[rows]);
        }
        if architecture.logit_scale != 1.0 {
            scale(kernels.isa(), logits, architecture.logit_scale);
        }
        if let Some(cap) = architecture.logit_cap {
            soft_cap(kernels.isa(), logits, cap);
        }
    };
    if asked > 0 {
        let codes = head.weight_type().is_quantized();
        let step = NormStep { architecture, norm: Some(&weights.output_norm), codes };
        step.add_and_normalise(kernels, post_norm, buffers);
    }
    let kept = logits.reset(head.rows(), batch.iter().flat_map(SequenceStep::kept));
    multiply_kept(kernels, &buffers.input, head, finish, &mut buffers.kept, kept);
}
