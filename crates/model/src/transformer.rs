//! The forward pass: token trees of a batch of sequences through the layers of a transformer.
//!
//! All sequences' nodes are rows of the same matrix products, so that every weight is read once for all of them;
//! attention looks at each sequence's own cache. It reads like the formulas of the architecture, and knows no families.

use std::sync::Arc;

use lookahead_kernels::{
    Activations, AttentionScratch, AttentionShape, Kernels, Matrix, RopeTable, VisibleRows, add, attention,
    gate, multiply, rms_norm, rms_norm_in_place, scale,
};

use crate::architecture::{Architecture, Layer};
use crate::gguf::GgufFile;
use crate::weights::{LayerWeights, Linear, Weights};
use crate::{
    Cache, ForwardError, KvCache, LanguageModel, LoadError, Logits, LogitsOf, SequenceStep, TokenTree,
};

/// A model on the CPU.
#[derive(Debug)]
pub struct CpuModel {
    architecture: Arc<Architecture>,
    weights: Arc<Weights>,
    kernels: Kernels,
    ropes: Vec<RopeTable>,
    buffers: Buffers,
}

/// Intermediate values of a pass, kept for the next one.
#[derive(Debug, Default)]
struct Buffers {
    /// The residual stream: `[node][hidden]`.
    residual: Vec<f32>,
    /// The input of the next matrix product.
    input: Activations,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// What a block adds to the residual stream.
    result: Vec<f32>,
    scratch: AttentionScratch,
}

/// The rows of one sequence in a pass.
struct Placement {
    /// Its first row.
    first: usize,
    /// Position of each node.
    positions: Vec<usize>,
    /// Cache rows that each node sees, without a window.
    visible: Vec<VisibleRows>,
}

impl CpuModel {
    /// Loads the model of `file` to run on `kernels`.
    ///
    /// # Errors
    /// If the file is no complete model of a known architecture.
    pub fn load(file: &GgufFile, kernels: Kernels) -> Result<Self, LoadError> {
        let architecture = Architecture::describe(file)?;
        let weights = Weights::load(file, &architecture, &kernels)?;
        Ok(Self::assemble(Arc::new(architecture), Arc::new(weights), kernels))
    }

    /// The same model on other kernels; the weights are shared.
    #[must_use]
    pub fn with_kernels(&self, kernels: Kernels) -> Self {
        Self::assemble(Arc::clone(&self.architecture), Arc::clone(&self.weights), kernels)
    }

    fn assemble(architecture: Arc<Architecture>, weights: Arc<Weights>, kernels: Kernels) -> Self {
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
        Self { architecture, weights, kernels, ropes, buffers: Buffers::default() }
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
        self.architecture.kv_values_per_token() * size_of::<f32>()
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
        KvCache::new(&self.architecture, capacity)
    }

    fn forward(
        &mut self,
        batch: &mut [SequenceStep<'_, KvCache>],
        logits: &mut Logits,
    ) -> Result<(), ForwardError> {
        self.check(batch)?;
        let Self { architecture, weights, kernels, ropes, buffers } = self;
        let placements = place(batch, ropes);
        embed(kernels, architecture, weights, batch, &mut buffers.residual);
        for (index, (layer, weights)) in architecture.layers.iter().zip(&weights.layers).enumerate() {
            let pass = LayerPass { kernels, index, layer, weights, epsilon: architecture.norm_epsilon };
            pass.attend(batch, &placements, &ropes[layer.attention.rope], buffers);
            pass.feed_forward(buffers);
        }
        write_logits(kernels, architecture, weights, batch, &placements, buffers, logits);
        Ok(())
    }
}

/// Finds out where each node stands, and begins the pass in the caches.
fn place(batch: &mut [SequenceStep<'_, KvCache>], ropes: &mut [RopeTable]) -> Vec<Placement> {
    let mut first = 0;
    batch
        .iter_mut()
        .map(|SequenceStep { tree, cache, .. }| {
            cache.begin(tree.len());
            let positions: Vec<usize> =
                tree.depths().iter().map(|&depth| cache.len() + depth as usize).collect();
            let longest = positions.iter().max().map_or(0, |last| last + 1);
            for rope in ropes.iter_mut() {
                rope.reserve(longest);
            }
            let visible = (0..tree.len()).map(|node| visible_rows(tree, node, cache.len())).collect();
            let placement = Placement { first, positions, visible };
            first += tree.len();
            placement
        })
        .collect()
}

/// The cache rows of the context and of the path to `node`. The part of a path that numbers its nodes in order, as all
/// of a chain does, extends the range.
fn visible_rows(tree: &TokenTree, node: usize, context: usize) -> VisibleRows {
    let depth = tree.depths()[node] as usize;
    if depth == node {
        return VisibleRows { range: 0..context + node + 1, path: Vec::new() };
    }
    let mut path = tree.path_to(node);
    let in_order = path.iter().enumerate().take_while(|&(depth, &node)| depth == node as usize).count();
    path.drain(..in_order);
    for row in &mut path {
        *row += context as u32;
    }
    VisibleRows { range: 0..context + in_order, path }
}

/// Restricts `visible` to the last `window` rows.
fn within_window(visible: &VisibleRows, window: usize) -> VisibleRows {
    let hidden = visible.len().saturating_sub(window);
    let from_range = hidden.min(visible.range.len());
    VisibleRows {
        range: visible.range.start + from_range..visible.range.end,
        path: visible.path[hidden - from_range..].to_vec(),
    }
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
    /// `residual += output(attention(norm(residual)))`
    fn attend(
        &self,
        batch: &mut [SequenceStep<'_, KvCache>],
        placements: &[Placement],
        rope: &RopeTable,
        buffers: &mut Buffers,
    ) {
        let Self { kernels, weights, .. } = self;
        let attention_spec = &self.layer.attention;
        let (heads, kv_heads) = (attention_spec.heads, attention_spec.kv_heads);
        let head_dim = attention_spec.head_dim;
        let Buffers { residual, input, queries, keys, values, result, scratch, .. } = buffers;

        self.normalised(residual, &weights.attention_norm, input);
        apply(kernels, input, [(&weights.query, queries), (&weights.key, keys), (&weights.value, values)]);
        let [query_norm, key_norm] =
            weights.qk_norms.as_ref().map_or([None, None], |[q, k]| [Some(q), Some(k)]);
        let position: Vec<usize> = placements.iter().flat_map(|p| p.positions.iter().copied()).collect();
        for (rows, norm, heads) in [(&mut *queries, query_norm, heads), (&mut *keys, key_norm, kv_heads)] {
            let width = heads * head_dim;
            kernels.for_each_row(rows, width, 4 * width, |node, row| {
                if let Some(norm) = norm {
                    for head in row.chunks_exact_mut(head_dim) {
                        rms_norm_in_place(kernels.isa(), head, norm, self.epsilon);
                    }
                }
                rope.rotate(kernels.isa(), row, head_dim, position[node]);
            });
        }

        let shape = AttentionShape { heads, kv_heads, head_dim, scale: attention_spec.scale };
        let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let mixed = input.reset(position.len(), width);
        for (step, placement) in batch.iter_mut().zip(placements) {
            let nodes = placement.first..placement.first + placement.positions.len();
            for (node, row) in nodes.clone().enumerate() {
                let kv = row * kv_width..(row + 1) * kv_width;
                step.cache.write(self.index, node, &keys[kv.clone()], &values[kv]);
            }
            let windowed: Vec<VisibleRows>;
            let visible = match attention_spec.window {
                Some(window) => {
                    windowed = placement.visible.iter().map(|v| within_window(v, window)).collect();
                    &windowed
                }
                None => &placement.visible,
            };
            let rows = nodes.start * width..nodes.end * width;
            let cache = step.cache.layer(self.index);
            attention(kernels, shape, &queries[rows.clone()], cache, visible, scratch, &mut mixed[rows]);
        }
        self.add_result(
            &weights.attention_output,
            input,
            weights.post_norms.as_ref().map(|n| &n[0]),
            result,
            residual,
        );
    }

    /// `residual += down(activation(gate(norm(residual))) * up(norm(residual)))`
    fn feed_forward(&self, buffers: &mut Buffers) {
        let Self { kernels, weights, .. } = self;
        let Buffers { residual, input, gate: gates, up: ups, result, .. } = buffers;
        self.normalised(residual, &weights.feed_forward_norm, input);
        apply(kernels, input, [(&weights.gate, gates), (&weights.up, ups)]);
        let (size, activation) = (self.layer.feed_forward.size, self.layer.feed_forward.activation);
        let products = input.reset(gates.len() / size, size);
        kernels.for_each_row(products, size, 8 * size, |node, row| {
            let part = node * size..(node + 1) * size;
            gate(kernels.isa(), activation, &gates[part.clone()], &ups[part], row);
        });
        self.add_result(&weights.down, input, weights.post_norms.as_ref().map(|n| &n[1]), result, residual);
    }

    /// `input = norm(residual)`
    fn normalised(&self, residual: &[f32], weight: &[f32], input: &mut Activations) {
        normalise(self.kernels, residual, weight, self.epsilon, input);
    }

    /// `residual += norm(linear(input))`
    fn add_result(
        &self,
        linear: &Linear,
        input: &mut Activations,
        norm: Option<&Vec<f32>>,
        result: &mut Vec<f32>,
        residual: &mut [f32],
    ) {
        apply(self.kernels, input, [(linear, &mut *result)]);
        let isa = self.kernels.isa();
        let hidden = linear.matrix.rows();
        if let Some(norm) = norm {
            self.kernels.for_each_row(result, hidden, 2 * hidden, |_, row| {
                rms_norm_in_place(isa, row, norm, self.epsilon);
            });
        }
        add(isa, residual, result);
    }
}

/// `input = norm(x)`, row by row.
fn normalise(kernels: &Kernels, x: &[f32], weight: &[f32], epsilon: f32, input: &mut Activations) {
    let width = weight.len();
    let normalised = input.reset(x.len() / width, width);
    kernels.for_each_row(normalised, width, 2 * width, |node, row| {
        rms_norm(kernels.isa(), &x[node * width..][..width], weight, epsilon, row);
    });
}

/// Multiplies `input` with several matrices at once and adds their biases.
fn apply<const N: usize>(
    kernels: &Kernels,
    input: &mut Activations,
    products: [(&Linear, &mut Vec<f32>); N],
) {
    for (linear, _) in &products {
        if linear.matrix.weight_type().is_quantized() {
            input.quantize(kernels, linear.matrix.weight_type());
            break;
        }
    }
    let tokens = input.tokens();
    let mut products = products;
    for (linear, out) in &mut products {
        out.resize(tokens * linear.matrix.rows(), 0.0);
    }
    let outputs: [(&Matrix, &mut [f32]); N] =
        products.each_mut().map(|(linear, out)| (&linear.matrix, out.as_mut_slice()));
    multiply(kernels, input, outputs);
    for (linear, out) in products {
        if let Some(bias) = &linear.bias {
            for row in out.chunks_exact_mut(bias.len()) {
                add(kernels.isa(), row, bias);
            }
        }
    }
}

/// Normalises the asked nodes' rows and multiplies them with the output head.
fn write_logits(
    kernels: &Kernels,
    architecture: &Architecture,
    weights: &Weights,
    batch: &[SequenceStep<'_, KvCache>],
    placements: &[Placement],
    buffers: &mut Buffers,
    logits: &mut Logits,
) {
    let hidden = architecture.hidden_size;
    let Buffers { residual, result: asked, input, .. } = buffers;
    asked.clear();
    for (step, Placement { first, positions, .. }) in batch.iter().zip(placements) {
        let end = first + positions.len();
        let rows = match step.logits_of {
            LogitsOf::Nothing => end..end,
            LogitsOf::Last => end - 1..end,
            LogitsOf::Every => *first..end,
        };
        asked.extend_from_slice(&residual[rows.start * hidden..rows.end * hidden]);
    }
    let head = weights.head();
    let out = logits.reset(asked.len() / hidden, head.rows());
    if asked.is_empty() {
        return;
    }
    normalise(kernels, asked, &weights.output_norm, architecture.norm_epsilon, input);
    input.quantize(kernels, head.weight_type());
    multiply(kernels, input, [(head, &mut *out)]);
    if let Some(bias) = weights.output.as_ref().and_then(|output| output.bias.as_ref()) {
        for row in out.chunks_exact_mut(head.rows()) {
            add(kernels.isa(), row, bias);
        }
    }
}
