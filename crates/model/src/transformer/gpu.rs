//! The operators of a transformer on a GPU. Each is recorded into a pass, which runs when the output head asks for its results, routers do for
//! theirs, or the CPU for the input of a block that it computes.

mod heads;
mod host;
mod on_gpu;
mod results;
mod rows;
mod streams;

use std::f32::consts::FRAC_1_SQRT_2;
use std::ops::Range;
use std::ptr;

use lookahead_gpu::{
    Added, Attention, AttentionPlaces, Elementwise, Epilogue, Input, NormOf, RotatedHeads, Rows, Scattered,
    StoredRows, add_rows, elementwise, gather, keep_outliers, normalise, place, rotate,
};
use lookahead_kernels::{AttentionShape, InputCodes, Keep, Kept, Matrix, PAGE_ROWS, RopeTable};

pub(crate) use self::host::HostBuffers;
pub(crate) use self::on_gpu::OnGpu;
use self::on_gpu::uploaded;
pub(crate) use self::rows::{GpuInput, GpuRows};
use super::Cpu;
use super::backend::{
    AttentionBlock, Backend, CacheLayer, Gathered, HeadParts, LatentBlock, Normalised, OtherBlock, Step,
    Streams, StreamsStep, Sum,
};
use super::cpu::embedding::{embed, layer_embedding};
use super::placements::Placements;
use crate::architecture::{Architecture, Mixer, Mlp, Norm, PerLayer, QkNorm};
use crate::gpu::{GpuCache, GpuPages};
use crate::language_model::Cache as _;
use crate::weights::{Linear, NormWeights, PerLayerInputsWeights, Weights};

/// Floats for what chunks of attention come to: as many nodes as these are enough for are computed at once.
const CHUNK_FLOATS: usize = 4 << 20;

/// Whether there are operators for a block; the CPU computes others.
pub(crate) fn has_operators(mixer: &Mixer) -> bool {
    match mixer {
        Mixer::Recurrence(_) | Mixer::Scan(_) | Mixer::Convolution(_) => false,
        Mixer::Attention(_)
        | Mixer::Latent(_)
        | Mixer::Dense(_)
        | Mixer::Experts(_)
        | Mixer::PerLayer(_)
        | Mixer::Laurel(_) => true,
    }
}

/// The GPU as a [`Backend`].
pub(crate) struct GpuBackend<'a> {
    pub(crate) on_gpu: &'a mut OnGpu,
    pub(crate) pages: &'a GpuPages,
    /// The CPU, which computes what enters the first layer and what there are no operators for.
    pub(crate) cpu: &'a mut Cpu,
    pub(crate) host: &'a mut HostBuffers,
    /// What enters the first of the GPU's layers, if the CPU computes layers before.
    pub(crate) entering: Option<&'a [f32]>,
}

impl GpuBackend<'_> {
    /// Makes room for `count` rows of `width` floats.
    fn make(&mut self, rows: &mut GpuRows, count: usize, width: usize) -> Rows {
        let OnGpu { pass, number, nodes, .. } = &mut *self.on_gpu;
        if rows.number != *number || rows.room < count * width {
            let made = Rows::new(pass, count.max(*nodes), width);
            *rows = GpuRows { rows: made, room: made.len(), number: *number };
        }
        rows.rows = Rows { at: rows.rows.at, width, count };
        rows.rows
    }

    fn normalise_part(&mut self, norm: NormOf, part: usize, from: Rows, to: Rows) {
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        normalise(gpu, pass, norm, part, from, to);
    }

    /// Normalises queries or keys of all nodes in place.
    fn normalise_heads(
        &mut self,
        norm: Norm,
        kind: QkNorm,
        weights: &NormWeights,
        head_dim: usize,
        rows: Rows,
    ) {
        let (mut norm, part) =
            (self.on_gpu.norm(norm, weights), if kind == QkNorm::Whole { rows.width } else { head_dim });
        if kind == QkNorm::EachHead {
            (norm.weight_stride, norm.bias) = (head_dim, None);
        }
        self.normalise_part(norm, part, rows, rows);
    }

    /// Turns heads of all nodes to their positions, in place: their dimensions from `first` on.
    fn rotate_heads(
        &mut self,
        rope: &RopeTable,
        placements: &Placements,
        rows: Rows,
        head_dim: usize,
        first: usize,
    ) {
        let angles = self.angles(rope, &placements.positions);
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        let heads = RotatedHeads {
            nodes: rows.count,
            heads: rows.width / head_dim,
            head_dim,
            dimensions: rope.dimensions(),
            pairs: rope.pairs(),
            rows: rows.at + first,
            angles,
        };
        rotate(gpu, pass, heads);
    }

    fn elementwise(&mut self, operation: Elementwise, to: Rows, from: Rows) {
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        elementwise(gpu, pass, operation, to, from, None);
    }

    /// Copies the rows of the given nodes, those of each of `from` behind those of the one before.
    fn kept(&mut self, nodes: &[Range<usize>], from: &[Rows]) -> GpuRows {
        let kept: Vec<u32> = nodes.iter().cloned().flatten().map(|node| node as u32).collect();
        let (count, width) = (kept.len(), from.first().map_or(0, |rows| rows.width));
        let OnGpu { gpu, pass, number, .. } = &mut *self.on_gpu;
        let rows = Rows::new(pass, from.len() * count, width);
        let order = pass.put_words(kept);
        for (index, from) in from.iter().enumerate() {
            let to = Rows { at: rows.at + index * count * width, count, width };
            elementwise(gpu, pass, Elementwise::Copy, to, *from, Some(order));
        }
        GpuRows { rows, room: rows.len(), number: *number }
    }

    /// Makes rows the input of products, with room for their codes.
    fn input(&mut self, rows: Rows, codes: InputCodes, to: &mut GpuInput) -> Input {
        let OnGpu { pass, number, nodes, .. } = &mut *self.on_gpu;
        let GpuInput { input, blocks, super_blocks, .. } = to;
        let room = [rows.count.max(*nodes), rows.width];
        *input = Input {
            values: rows,
            blocks: codes.blocks().then(|| blocks.make(pass, *number, room, 32)),
            super_blocks: codes.super_blocks().then(|| super_blocks.make(pass, *number, room, 256)),
        };
        *input
    }

    /// Makes rows the input of products.
    fn quantize(&mut self, rows: Rows, codes: InputCodes, to: &mut GpuInput) {
        let input = self.input(rows, codes, to);
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        input.quantize(gpu, pass);
    }

    /// Changes rows, and makes them the input of products.
    fn change(
        &mut self,
        operation: Elementwise,
        rows: Rows,
        from: Rows,
        codes: InputCodes,
        to: &mut GpuInput,
    ) {
        let input = self.input(rows, codes, to);
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        input.change(gpu, pass, operation, from);
    }

    /// Adds to rows, normalises them, and makes them the input of products.
    fn normalise_input(&mut self, added: Added<'_>, how: Normalised<'_>, rows: Rows, to: &mut GpuInput) {
        let norm = how.weights.map(|weights| self.on_gpu.norm(how.norm, weights));
        let values = if norm.is_some() { self.make(&mut to.values, rows.count, rows.width) } else { rows };
        let input = self.input(values, how.codes, to);
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        input.normalise(gpu, pass, added, norm, rows);
    }

    /// Where the angles of the pass's nodes lie.
    fn angles(&mut self, rope: &RopeTable, positions: &[usize]) -> usize {
        let OnGpu { pass, angles, .. } = &mut *self.on_gpu;
        let values =
            || positions.iter().flat_map(|&position| rope.angles(position)).flatten().copied().collect();
        *angles.entry(ptr::from_ref(rope).addr()).or_insert_with(|| pass.put_floats(values()))
    }

    /// Uploads what the nodes of a pass see, and where their own rows lie.
    fn place(&mut self, batch: &[Step<'_, Self>], placements: &Placements) {
        let OnGpu { pass, seen, seen_at, places, .. } = &mut *self.on_gpu;
        let mut own = Vec::new();
        seen.clear();
        for (step, visible) in batch.iter().zip(&placements.visible) {
            let (pages, committed) = (step.cache.gpu().pages(), step.cache.len());
            seen.begin_sequence(pages.iter().map(|page| page.slot()));
            for node in 0..visible.len() {
                let (context, path) = visible.of_node(node);
                seen.push(context, path.iter().copied());
                let row = committed + node;
                own.push(place(pages[row / PAGE_ROWS].slot(), row));
            }
        }
        *seen_at = seen.put(pass);
        *places = pass.put_words(own);
    }
}

impl Backend for GpuBackend<'_> {
    type Rows = GpuRows;
    type Input = GpuInput;
    type Cache = GpuCache;

    fn embed(
        &mut self,
        architecture: &Architecture,
        weights: &Weights,
        batch: &[Step<'_, Self>],
        placements: &Placements,
        stream: &mut GpuRows,
    ) {
        self.on_gpu.pass.clear();
        self.on_gpu.angles.clear();
        self.on_gpu.number += 1;
        self.on_gpu.nodes = placements.positions.len();
        self.on_gpu.chunks = 0..0;
        self.place(batch, placements);
        // A row of the embedding for each node is little to upload, and the matrix need not be on the GPU.
        let (hidden, count) = (architecture.hidden_size, placements.positions.len());
        let values = if let Some(entering) = self.entering {
            entering.to_vec()
        } else {
            let mut values = vec![0.0; count * hidden];
            let tokens = batch.iter().flat_map(|step| step.tree.tokens()).zip(&placements.positions);
            let isa = self.cpu.kernels().isa();
            embed(isa, architecture, weights, tokens, &mut Vec::new(), &mut values);
            values
        };
        let at = self.on_gpu.pass.put_floats(values);
        let rows = Rows { at, width: hidden, count };
        *stream = GpuRows { rows, room: rows.len(), number: self.on_gpu.number };
    }

    fn apply<const N: usize>(&mut self, input: &GpuInput, products: [(&Linear, &mut GpuRows); N]) {
        for (linear, out) in products {
            let out = self.make(out, input.input.values.count, linear.matrix.rows());
            self.multiply(input, linear, out);
        }
    }

    fn copy(&mut self, from: &GpuRows, to: &mut GpuRows) {
        let to = self.make(to, from.rows.count, from.rows.width);
        self.elementwise(Elementwise::Copy, to, from.rows);
    }

    fn normalise(&mut self, how: Normalised<'_>, rows: &mut GpuRows, to: &mut GpuInput) {
        self.normalise_input(Added::NOTHING, how, rows.rows, to);
    }

    fn add_and_normalise(
        &mut self,
        sum: &Sum<'_>,
        how: Normalised<'_>,
        stream: &mut GpuRows,
        results: &mut [GpuRows; 2],
        to: &mut GpuInput,
    ) {
        let results = &results[..sum.results];
        for (result, post_norm) in results.iter().zip(sum.post_norms) {
            if let Some(weights) = post_norm {
                let norm = self.on_gpu.norm(how.norm, weights);
                self.normalise_part(norm, result.rows.width, result.rows, result.rows);
            }
        }
        let mut added = results;
        if let (Some(weights), [first, second]) = (sum.joint_norm, results) {
            self.elementwise(Elementwise::Add, first.rows, second.rows);
            let norm = self.on_gpu.norm(how.norm, weights);
            self.normalise_part(norm, first.rows.width, first.rows, first.rows);
            added = &results[..1];
        }
        let added: Vec<_> = added.iter().map(|result| result.rows).collect();
        let added = Added { rows: &added, factor: sum.scale, scale: sum.stream_scale };
        self.normalise_input(added, how, stream.rows, to);
    }

    fn normalise_and_add(&mut self, norm: Norm, weights: &NormWeights, input: &GpuInput, rows: &mut GpuRows) {
        let (rows, norm) = (rows.rows, self.on_gpu.norm(norm, weights));
        self.normalise_part(norm, rows.width, rows, rows);
        self.elementwise(Elementwise::Add, rows, input.input.values);
    }

    fn keep_nodes(&mut self, nodes: &[Range<usize>], rows: &mut GpuRows, width: usize) {
        debug_assert_eq!(rows.rows.width, width, "rows of this width");
        *rows = self.kept(nodes, &[rows.rows]);
    }

    fn turn(
        &mut self,
        block: &AttentionBlock<'_>,
        placements: &Placements,
        queries: &mut GpuRows,
        keys_and_values: Option<[&mut GpuRows; 2]>,
    ) {
        let AttentionBlock { spec, weights, norm, rope, .. } = *block;
        let (keys, values) = keys_and_values
            .map(|rows| rows.map(|rows| rows.rows))
            .map_or((None, None), |[k, v]| (Some(k), Some(v)));
        if let (Some(kind), Some(weights), Some(values)) = (spec.value_norm, &weights.value_norm, values) {
            self.normalise_heads(norm, kind, weights, spec.value_dim, values);
        }
        let turned = [Some(queries.rows), keys];
        let normalise = |backend: &mut Self| {
            for (rows, weights) in turned.into_iter().zip(&weights.qk_norms) {
                if let (Some(kind), Some(rows)) = (spec.qk_norm, rows) {
                    backend.normalise_heads(norm, kind, weights, spec.key_dim, rows);
                }
            }
        };
        if !spec.norm_is_behind_rope {
            normalise(self);
        }
        if let Some(rope) = rope {
            for rows in turned.into_iter().flatten() {
                self.rotate_heads(rope, placements, rows, spec.key_dim, 0);
            }
        }
        if spec.norm_is_behind_rope {
            normalise(self);
        }
        if let Some(scale) = spec.query_scale {
            let factors: Vec<f32> = placements.positions.iter().map(|&position| scale.at(position)).collect();
            let count = factors.len();
            let factors = Rows { at: self.on_gpu.pass.put_floats(factors), width: 1, count };
            self.elementwise(Elementwise::Multiply, queries.rows, factors);
        }
    }

    fn turn_latents(
        &mut self,
        block: &LatentBlock<'_>,
        placements: &Placements,
        queries: &mut GpuRows,
        latents: &mut GpuRows,
    ) {
        self.turn_latent_rows(block, placements, queries.rows, latents.rows);
    }

    fn store(
        &mut self,
        layer: CacheLayer,
        _: &mut [Step<'_, Self>],
        _: &Placements,
        [keys, values]: [&GpuRows; 2],
    ) {
        let OnGpu { gpu, pass, places, .. } = &mut *self.on_gpu;
        let rows = StoredRows { keys: keys.rows, values: values.rows, places: *places };
        self.pages.memory().store(gpu, pass, layer.index, rows);
    }

    fn attend(
        &mut self,
        layer: CacheLayer,
        shape: AttentionShape<'_>,
        _: &[Step<'_, Self>],
        placements: &Placements,
        queries: &GpuRows,
        out: &mut GpuRows,
    ) {
        let AttentionShape { heads, scale, window, soft_cap, alibi, sinks } = shape;
        let out = self.make(out, placements.positions.len(), heads * layer.shape.value_dim);
        let sinks = (!sinks.is_empty()).then(|| self.on_gpu.constant(sinks));
        let slopes = alibi.then(|| self.on_gpu.slopes(heads));
        let (kv, layer) = (self.pages.memory(), layer.index);
        let attention = Attention { kv, layer, heads, scale, window, soft_cap, slopes, sinks };
        let OnGpu { gpu, pass, seen, seen_at, chunks, .. } = &mut *self.on_gpu;
        let floats_of_node = attention.chunk_floats(seen, 1).max(1);
        let floats = floats_of_node * (CHUNK_FLOATS / floats_of_node).clamp(1, seen.len().max(1));
        if chunks.len() < floats {
            let start = pass.floats(floats);
            *chunks = start..start + floats;
        }
        let places =
            AttentionPlaces { seen: *seen_at, queries: queries.rows.at, chunks: chunks.clone(), out: out.at };
        attention.record(gpu, pass, seen, &places);
    }

    fn apply_to_heads(
        &mut self,
        maps: &[Linear],
        parts: [HeadParts; 2],
        rows: &mut GpuRows,
        out: &mut GpuRows,
    ) {
        self.multiply_heads(maps, parts, rows.rows, out);
    }

    fn copy_heads(&mut self, parts: [HeadParts; 2], rows: &GpuRows, out: &mut GpuRows) {
        self.copy_heads_to(parts, rows.rows, out);
    }

    fn gate_heads(
        &mut self,
        _: [usize; 2],
        gates: Option<&mut GpuRows>,
        values: &mut GpuRows,
        codes: InputCodes,
        to: &mut GpuInput,
    ) {
        match gates {
            Some(gates) => self.change(Elementwise::ScaleBySigmoid, values.rows, gates.rows, codes, to),
            None => self.quantize(values.rows, codes, to),
        }
    }

    fn activate(
        &mut self,
        spec: &Mlp,
        gates: Option<&mut GpuRows>,
        ups: &mut GpuRows,
        codes: InputCodes,
        to: &mut GpuInput,
    ) {
        let (rows, operation, other) = if let Some(gates) = gates {
            (gates.rows, Elementwise::Gate(spec.activation), ups.rows)
        } else {
            (ups.rows, Elementwise::Activate(spec.activation), ups.rows)
        };
        if let Some(deviations) = spec.sparsity {
            let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
            keep_outliers(gpu, pass, rows, deviations);
        }
        self.change(operation, rows, other, codes, to);
    }

    fn read_back<const N: usize>(&mut self, rows: [(&mut GpuRows, &mut Vec<f32>); N]) {
        for (GpuRows { rows, .. }, _) in &rows {
            self.on_gpu.pass.read(rows.at..rows.at + rows.len());
        }
        let read = self.on_gpu.run();
        let mut read = &read[..];
        for (GpuRows { rows, .. }, to) in rows {
            to.clear();
            to.extend(read.split_off(..rows.len()).unwrap_or_default());
            // After an error nothing runs: any values do.
            to.resize(rows.len(), 0.0);
        }
    }

    fn zero(&mut self, like: &GpuInput, rows: &mut GpuRows) {
        let Rows { count, width, .. } = like.input.values;
        let rows = self.make(rows, count, width);
        self.elementwise(Elementwise::Zero, rows, rows);
    }

    fn gather(&mut self, gathered: &Gathered<'_>, from: &GpuInput, to: &mut GpuInput) {
        let &Gathered { routes, scales, weighs_inputs, codes } = gathered;
        let from = from.input.values;
        let rows = self.make(&mut to.values, routes.len(), from.width);
        let column_factors = (!scales.is_empty()).then(|| self.on_gpu.constant(scales));
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        let tokens = routes.iter().map(|route| route.token as u32).collect();
        let weights = || routes.iter().map(|route| route.weight).collect();
        let gathered = lookahead_gpu::Gathered {
            rows: pass.put_words(tokens),
            column_factors,
            row_factors: weighs_inputs.then(|| pass.put_floats(weights())),
        };
        gather(gpu, pass, gathered, from, rows);
        self.quantize(rows, codes, to);
    }

    fn add_rows(
        &mut self,
        rows: impl Iterator<Item = (usize, f32)>,
        width: usize,
        from: &GpuRows,
        to: &mut GpuRows,
    ) {
        debug_assert_eq!(from.rows.width, width, "rows of this width");
        let OnGpu { gpu, pass, .. } = &mut *self.on_gpu;
        let rows = rows.take(from.rows.count).map(|(row, factor)| (row as u32, factor));
        let (rows, factors) = rows.unzip();
        let scattered = Scattered { rows: pass.put_words(rows), factors: pass.put_floats(factors) };
        add_rows(gpu, pass, scattered, from.rows, to.rows);
    }

    fn add_layer_embeddings(
        &mut self,
        architecture: &Architecture,
        weights: &PerLayerInputsWeights,
        batch: &[Step<'_, Self>],
        inputs: &mut GpuRows,
    ) {
        let rows = inputs.rows;
        let mut values = vec![0.0; rows.len()];
        let tokens = batch.iter().flat_map(|step| step.tree.tokens());
        for (row, &token) in values.chunks_exact_mut(rows.width).zip(tokens) {
            layer_embedding(self.cpu.kernels().isa(), weights, token, row);
        }
        let embeddings = Rows { at: self.on_gpu.pass.put_floats(values), ..rows };
        let hidden = architecture.hidden_size as f32;
        self.elementwise(Elementwise::Scale(1.0 / hidden.sqrt()), rows, rows);
        let norm = self.on_gpu.norm(architecture.norm, &weights.norm);
        self.normalise_part(norm, weights.norm.weight.len(), rows, rows);
        self.elementwise(Elementwise::Add, rows, embeddings);
        self.elementwise(Elementwise::Scale(FRAC_1_SQRT_2), rows, rows);
    }

    fn gate_layer_inputs(
        &mut self,
        spec: &PerLayer,
        gates: &mut GpuRows,
        inputs: &mut GpuRows,
        codes: InputCodes,
        to: &mut GpuInput,
    ) {
        let (gates, inputs) = (gates.rows, inputs.rows);
        let of_layer = Rows { at: inputs.at + spec.layer * spec.size, ..inputs };
        self.change(Elementwise::Gate(spec.activation), gates, of_layer, codes, to);
    }

    fn head(&mut self, architecture: &Architecture, weights: &Weights, input: &GpuInput, kept: Kept<'_>) {
        let head = weights.head();
        let bias = weights.output.as_ref().and_then(|output| output.bias.as_deref());
        let epilogue = Epilogue { factors: None, bias: bias.map(|bias| self.on_gpu.constant(bias)) };
        let (Kept { keep, mut rows, mut best }, vocabulary) = (kept, head.rows());
        let at_once = (self.on_gpu.logit_floats / vocabulary.max(1)).clamp(1, keep.len().max(1));
        let room = Rows::new(&mut self.on_gpu.pass, at_once, vocabulary);
        for (index, keep) in keep.chunks(at_once).enumerate() {
            let logits = Rows { count: keep.len(), ..room };
            self.multiply_by(&input.input.part(index * at_once, keep.len()), head, epilogue, logits);
            if architecture.logit_scale != 1.0 {
                self.elementwise(Elementwise::Scale(architecture.logit_scale), logits, logits);
            }
            if let Some(cap) = architecture.logit_cap {
                self.elementwise(Elementwise::SoftCap(cap), logits, logits);
            }
            let whole = keep.iter().filter(|&&keep| keep == Keep::Row).count() * vocabulary;
            let ranked = keep.iter().map(|keep| if let Keep::Best(ranks) = keep { *ranks } else { 0 }).sum();
            let rows = rows.split_off_mut(..whole).expect("room for each row");
            let best = best.split_off_mut(..ranked).expect("room for each rank");
            self.read(logits, Kept { keep, rows, best });
        }
    }

    fn run_other(
        &mut self,
        block: &OtherBlock<'_>,
        batch: &mut [Step<'_, Self>],
        placements: &Placements,
        input: &mut GpuInput,
        out: &mut GpuRows,
    ) {
        self.run_on_host(block, batch, placements, input, out);
    }

    fn step_streams(
        &mut self,
        streams: Streams<'_>,
        step: StreamsStep<'_, GpuRows, GpuInput>,
        active: &mut GpuRows,
    ) {
        self.step(streams, step, active.rows);
    }
}

impl GpuBackend<'_> {
    fn multiply(&mut self, input: &GpuInput, linear: &Linear, out: Rows) {
        let epilogue = self.on_gpu.epilogue(linear);
        self.multiply_by(&input.input, &linear.matrix, epilogue, out);
    }

    fn multiply_by(&mut self, input: &Input, matrix: &Matrix, epilogue: Epilogue, out: Rows) {
        let OnGpu { gpu, pass, matrices, error, .. } = &mut *self.on_gpu;
        match uploaded(gpu, matrices, matrix) {
            Ok(uploaded) => uploaded.multiply(gpu, pass, input, epilogue, out),
            Err(failed) => _ = error.get_or_insert(failed),
        }
    }
}
