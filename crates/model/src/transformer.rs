//! The forward pass: token trees of a batch of sequences through the layers of a transformer.
//!
//! All sequences' nodes are rows of the same matrix products, so that every weight is read once for all of them;
//! attention looks at each sequence's own cache. It reads like the formulas of the architecture, and knows no families.

use std::ops::Range;
use std::sync::Arc;

use lookahead_kernels::{
    Activations, AttentionScratch, AttentionShape, BestScratch, Kernels, KvType, Matrix, RopeTable,
    VisibleRows, add, attention, gate, multiply, multiply_best, rms_norm, rms_norm_in_place, scale,
};

use crate::architecture::{Architecture, Layer};
use crate::gguf::GgufFile;
use crate::kv_pool::KvPool;
use crate::weights::{LayerWeights, Linear, Weights};
use crate::{
    Cache, CacheMemory, ForwardError, Keep, KvCache, LanguageModel, LoadError, Logits, LogitsOf,
    OutOfCacheMemory, SequenceStep, TokenTree,
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
    /// The input of the next matrix product.
    input: Activations,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// What attention makes of the values.
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    scratch: AttentionScratch,
    best: BestScratch,
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
    /// Loads the model of `file` to run on `kernels`.
    ///
    /// # Errors
    /// If the file is no complete model of a known architecture.
    pub fn load(file: &GgufFile, kernels: Kernels) -> Result<Self, LoadError> {
        let architecture = Architecture::describe(file)?;
        let weights = Weights::load(file, &architecture, &kernels)?;
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
        let ropes = ropes
            .map(|(rope, factors)| {
                RopeTable::new(
                    rope.pairs,
                    rope.dimensions,
                    rope.base,
                    rope.position_scale,
                    factors.as_deref(),
                )
            })
            .collect();
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

    /// Bytes of the weight matrices that a forward pass reads: all but an embedding that is not the output head as well,
    /// of which a pass reads a row a token.
    pub fn weight_bytes(&self) -> usize {
        self.weights.matrices().map(Matrix::bytes).sum()
    }

    /// Multiply-adds of one token with the weight matrices, logits included: in integers, and in floats.
    pub fn macs_per_token(&self) -> [usize; 2] {
        let mut macs = [0; 2];
        for matrix in self.weights.matrices() {
            macs[usize::from(!matrix.weight_type().is_quantized())] += matrix.rows() * matrix.columns();
        }
        macs
    }

    /// Bytes of the KV cache for one token.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.architecture.kv_bytes_per_token(self.kv_type())
    }

    fn check(&self, batch: &[SequenceStep<'_, KvCache>]) -> Result<(), ForwardError> {
        let vocabulary_size = self.vocabulary_size();
        for step in batch {
            if let Some(&token) = step.tree.tokens().iter().find(|&&token| token as usize >= vocabulary_size)
            {
                return Err(ForwardError::UnknownToken { token, vocabulary_size });
            }
            let (capacity, committed, new) = (step.cache.capacity(), step.cache.len(), step.tree.len());
            if new > capacity - committed {
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
        self.architecture.context_length
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
        embed(kernels, architecture, weights, batch, &mut buffers.residual);
        buffers.result.clear();
        let mut post_norm = None;
        for (index, (layer, weights)) in architecture.layers.iter().zip(&weights.layers).enumerate() {
            let pass = LayerPass { kernels, index, layer, weights, epsilon: architecture.norm_epsilon };
            pass.attend(batch, &ropes[layer.attention.rope], post_norm, buffers);
            pass.feed_forward(buffers);
            post_norm = weights.post_norms.as_ref().map(|norms| &norms[1]);
        }
        write_logits(kernels, architecture, weights, batch, post_norm, buffers, logits);
        Ok(())
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

fn embed(
    kernels: &Kernels,
    architecture: &Architecture,
    weights: &Weights,
    batch: &[SequenceStep<'_, KvCache>],
    residual: &mut Vec<f32>,
) {
    let hidden = architecture.hidden_size;
    let tokens: usize = batch.iter().map(|step| step.tree.len()).sum();
    residual.resize(tokens * hidden, 0.0);
    let tokens = batch.iter().flat_map(|step| step.tree.tokens());
    for (row, &token) in residual.chunks_exact_mut(hidden).zip(tokens) {
        weights.embedding.dequantize_row(token as usize, row);
        if architecture.embedding_scale != 1.0 {
            scale(kernels.isa(), row, architecture.embedding_scale);
        }
    }
}

/// What the two blocks of a layer need.
struct LayerPass<'a> {
    kernels: &'a Kernels,
    index: usize,
    layer: &'a Layer,
    weights: &'a LayerWeights,
    epsilon: f32,
}

impl LayerPass<'_> {
    /// `result = output(attention(norm(residual)))`; `post_norm` is that of the block before.
    fn attend(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        rope: &RopeTable,
        post_norm: Option<&Vec<f32>>,
        buffers: &mut Buffers,
    ) {
        let Self { kernels, weights, epsilon, .. } = *self;
        let codes = [&weights.query, &weights.key, &weights.value].map(needs_codes).contains(&true);
        normalise(kernels, &weights.attention_norm, post_norm, epsilon, codes, buffers);
        let Buffers { placements, input, queries, keys, values, mixed, result, scratch, .. } = buffers;
        apply(kernels, input, [(&weights.query, queries), (&weights.key, keys), (&weights.value, values)]);

        let spec = &self.layer.attention;
        let (width, kv_width) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let tokens = placements.positions.len();
        let rows = [(&mut queries[..], width), (&mut keys[..], kv_width)];
        kernels.for_each_row(tokens, 4 * (width + kv_width), rows, |token, [query, key]| {
            let norms = weights.qk_norms.as_ref().map_or([None; 2], |norms| norms.each_ref().map(Some));
            for (row, norm) in [query, key].into_iter().zip(norms) {
                if let Some(norm) = norm {
                    for head in row.chunks_exact_mut(spec.head_dim) {
                        rms_norm_in_place(kernels.isa(), head, norm, epsilon);
                    }
                }
                rope.rotate(kernels.isa(), row, spec.head_dim, placements.positions[token]);
            }
        });

        let shape = AttentionShape { heads: spec.heads, scale: spec.scale, window: spec.window };
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

    /// `result = down(activation(gate(norm(residual))) * up(norm(residual)))`
    fn feed_forward(&self, buffers: &mut Buffers) {
        let Self { kernels, weights, epsilon, .. } = *self;
        let post_norm = weights.post_norms.as_ref().map(|norms| &norms[0]);
        let codes = [&weights.gate, &weights.up].map(needs_codes).contains(&true);
        normalise(kernels, &weights.feed_forward_norm, post_norm, epsilon, codes, buffers);
        let Buffers { input, gate: gates, up: ups, result, .. } = buffers;
        apply(kernels, input, [(&weights.gate, gates), (&weights.up, ups)]);
        let (size, activation) = (self.layer.feed_forward.size, self.layer.feed_forward.activation);
        let shape = [gates.len() / size, size];
        let sources = [(&mut gates[..], size), (&mut ups[..], size)];
        input.compute(
            kernels,
            shape,
            needs_codes(&weights.down),
            sources,
            8 * size,
            |_, [gates, ups], row| {
                gate(kernels.isa(), activation, gates, ups, row);
            },
        );
        apply(kernels, input, [(&weights.down, result)]);
    }
}

/// Whether the linear map is computed in integers.
fn needs_codes(linear: &Linear) -> bool {
    linear.matrix.weight_type().is_quantized()
}

/// `residual += post_norm(result)` with the result of the block before, if any, then `input = norm(residual)`.
fn normalise(
    kernels: &Kernels,
    weight: &[f32],
    post_norm: Option<&Vec<f32>>,
    epsilon: f32,
    codes: bool,
    buffers: &mut Buffers,
) {
    let Buffers { residual, result, input, .. } = buffers;
    let hidden = weight.len();
    let shape = [residual.len() / hidden, hidden];
    let result_width = if result.is_empty() { 0 } else { hidden };
    let sources = [(&mut residual[..], hidden), (&mut result[..], result_width)];
    input.compute(kernels, shape, codes, sources, 3 * hidden, |_, [residual, result], row| {
        if !result.is_empty() {
            if let Some(norm) = post_norm {
                rms_norm_in_place(kernels.isa(), result, norm, epsilon);
            }
            add(kernels.isa(), residual, result);
        }
        rms_norm(kernels.isa(), residual, weight, epsilon, row);
    });
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
    post_norm: Option<&Vec<f32>>,
    buffers: &mut Buffers,
    logits: &mut Logits,
) {
    let hidden = architecture.hidden_size;
    let mut asked = 0;
    for (step, nodes) in batch.iter().zip(&buffers.placements.sequences) {
        let nodes = match step.logits_of {
            LogitsOf::Nothing => nodes.end..nodes.end,
            LogitsOf::Last => nodes.end - 1..nodes.end,
            LogitsOf::Every => nodes.clone(),
        };
        for values in [&mut buffers.residual, &mut buffers.result] {
            values.copy_within(nodes.start * hidden..nodes.end * hidden, asked * hidden);
        }
        asked += nodes.len();
    }
    buffers.residual.truncate(asked * hidden);
    buffers.result.truncate(asked * hidden);
    let head = weights.head();
    let bias = weights.output.as_ref().and_then(|output| output.bias.as_ref());
    if asked > 0 {
        let codes = head.weight_type().is_quantized();
        normalise(kernels, &weights.output_norm, post_norm, architecture.norm_epsilon, codes, buffers);
    }
    match logits.keep() {
        Keep::Best(ranks) if ranks > 0 => {
            let out = logits.reset_best(asked, ranks);
            let bias = bias.map(Vec::as_slice);
            multiply_best(kernels, &buffers.input, head, bias, &mut buffers.best, out);
        }
        _ => {
            let out = logits.reset(asked, head.rows());
            if asked == 0 {
                return;
            }
            multiply(kernels, &buffers.input, [(head, &mut *out)]);
            if let Some(bias) = bias {
                let rows = [(out, bias.len())];
                kernels.for_each_row(asked, bias.len(), rows, |_, [row]| add(kernels.isa(), row, bias));
            }
        }
    }
}
