//! Keys and values of sequences on the GPU: for each layer a buffer of page slots, each with room for [`PAGE_ROWS`] rows.
//!
//! A slot's number names a page in all layers; which pages a sequence has is its owner's business. In a layer's page lie the keys of each
//! head, `[word][row]`, so that threads of neighbouring rows read neighbouring words, then the values of each head, `[row][word]`. A word
//! holds one dimension, two, or four, as the type of the cache has it; scales of [`KvType::Q8_0`] lie behind a head's words, each a float
//! that a half can hold.

use lookahead_kernels::{KvShape, KvType, PAGE_ROWS};
use wgpu::{BindGroup, Buffer, CommandEncoderDescriptor};

use crate::error::GpuError;
use crate::gpu::{Access, Gpu};
use crate::pass::Pass;
use crate::rows::Rows;

/// Threads of a workgroup of the operators here.
const THREADS: usize = 64;
/// Dimensions that share a scale.
const BLOCK: usize = 32;
/// Words that an index can name.
const INDEXED_BYTES: u64 = 4 << 32;

/// Where a row lies: row `row` of the page in slot `slot`, as operators read it.
pub fn place(slot: u32, row: usize) -> u32 {
    slot * PAGE_ROWS as u32 + (row % PAGE_ROWS) as u32
}

/// Keys and values of all layers.
#[derive(Debug)]
pub struct KvMemory {
    kv_type: KvType,
    layers: Vec<Layer>,
    /// Room for a page of a layer, on its way from one slot to another.
    copied: Buffer,
}

#[derive(Debug)]
struct Layer {
    shape: KvShape,
    buffer: Buffer,
    read: BindGroup,
    write: BindGroup,
}

/// Keys and values of nodes to store: where they lie in a pass. Rows may be longer than what is stored of them.
#[derive(Clone, Copy, Debug)]
pub struct StoredRows {
    /// `[head][key_dim]`
    pub keys: Rows,
    /// `[head][value_dim]`
    pub values: Rows,
    /// Words `[node]`: the [`place`] of each node's row.
    pub places: usize,
}

impl KvMemory {
    /// The most slots whose rows operators can name.
    pub const MOST_SLOTS: u32 = u32::MAX / PAGE_ROWS as u32;

    /// Memory for layers of the given shapes, with so many slots. A layer whose rows lie elsewhere has no heads.
    ///
    /// # Errors
    /// If a layer's buffer is larger than operators of this GPU can see, or there is no memory.
    pub fn new(
        gpu: &Gpu,
        kv_type: KvType,
        shapes: impl IntoIterator<Item = KvShape>,
        slots: usize,
    ) -> Result<Self, GpuError> {
        let what = "keys and values of a layer";
        let limit = gpu.largest_binding().min(INDEXED_BYTES);
        let (mut layers, mut largest_page) = (Vec::new(), 0);
        for shape in shapes {
            let page_bytes = page_bytes(kv_type, shape);
            let bytes = page_bytes * slots as u64;
            if bytes > limit {
                return Err(GpuError::TooLarge { what, bytes, limit });
            }
            let buffer = gpu.buffer(what, bytes)?;
            let [read, write] = [Access::Read, Access::Write].map(|access| gpu.bind_operand(access, &buffer));
            layers.push(Layer { shape, buffer, read, write });
            largest_page = largest_page.max(page_bytes);
        }
        let copied = gpu.buffer("a page of keys and values", largest_page)?;
        Ok(Self { kv_type, layers, copied })
    }

    /// Bytes of a slot in all layers of the given shapes.
    pub fn slot_bytes(kv_type: KvType, shapes: impl IntoIterator<Item = KvShape>) -> u64 {
        shapes.into_iter().map(|shape| page_bytes(kv_type, shape)).sum()
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// What layer `layer` keeps of a token.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn shape(&self, layer: usize) -> KvShape {
        self.layers[layer].shape
    }

    /// Copies the page in slot `from` of all layers over that in slot `to`, behind all that was given to the GPU before.
    pub fn copy_page(&self, gpu: &Gpu, from: u32, to: u32) {
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        for Layer { shape, buffer, .. } in &self.layers {
            if shape.heads == 0 {
                continue;
            }
            let bytes = page_bytes(self.kv_type, *shape);
            // No buffer is copied to itself.
            encoder.copy_buffer_to_buffer(buffer, u64::from(from) * bytes, &self.copied, 0, bytes);
            encoder.copy_buffer_to_buffer(&self.copied, 0, buffer, u64::from(to) * bytes, bytes);
        }
        gpu.queue.submit([encoder.finish()]);
    }

    /// Records that rows of all layers are moved, each from one [`place`] to another. The moves of a sequence ascend, and none goes
    /// to a later row: so a row is read before another is moved there.
    pub fn move_rows(&self, gpu: &Gpu, pass: &mut Pass, moves: &[[u32; 2]]) {
        if moves.is_empty() {
            return;
        }
        let at = pass.put_words(moves.concat());
        for (layer, Layer { shape, write, .. }) in self.layers.iter().enumerate() {
            if shape.heads == 0 {
                continue;
            }
            let pipeline = self.pipeline(gpu, layer, "move rows", Access::Write, || {
                include_str!("shaders/move_rows.wgsl").to_owned()
            });
            let columns = shape.heads
                * (row_words(self.kv_type, shape.key_dim) + row_words(self.kv_type, shape.value_dim));
            let groups = [columns.div_ceil(THREADS), 1, 1];
            pass.run(pipeline, Some(write), &[at as u32, moves.len() as u32], groups);
        }
    }

    /// Records that keys and values of nodes are stored in layer `layer`.
    ///
    /// # Panics
    /// If there is no such layer, or rows are shorter than what it keeps of them.
    pub fn store(&self, gpu: &Gpu, pass: &mut Pass, layer: usize, rows: StoredRows) {
        let Layer { shape, write, .. } = &self.layers[layer];
        let StoredRows { keys, values, places } = rows;
        let widths = [shape.key_dim, shape.value_dim].map(|dim| shape.heads * dim);
        assert!(keys.width >= widths[0] && values.width >= widths[1], "rows of keys and values");
        let pipeline = self.pipeline(gpu, layer, "store rows", Access::Write, || {
            include_str!("shaders/store_rows.wgsl").to_owned()
        });
        let blocks = shape.heads * (shape.key_dim.div_ceil(BLOCK) + shape.value_dim.div_ceil(BLOCK));
        let parameters = [keys.at, keys.width, values.at, values.width, places].map(|place| place as u32);
        pass.run(pipeline, Some(write), &parameters, [blocks.div_ceil(THREADS), keys.count, 1]);
    }

    /// The pipeline of an operator on layer `layer`: `source` behind how its pages lie.
    pub(crate) fn pipeline(
        &self,
        gpu: &Gpu,
        layer: usize,
        operator: &str,
        access: Access,
        source: impl FnOnce() -> String,
    ) -> std::sync::Arc<wgpu::ComputePipeline> {
        let KvShape { heads, key_dim, value_dim } = self.layers[layer].shape;
        let key = format!("{operator}: {heads} heads of {key_dim} and {value_dim} in {}", self.kv_type);
        gpu.pipeline(&key, access, || {
            let sizes = format!(
                "const PAGE_ROWS = {PAGE_ROWS}u;\nconst KV_HEADS = {heads}u;\nconst KEY_DIM = {key_dim}u;\n\
                 const VALUE_DIM = {value_dim}u;\n"
            );
            let elements = match self.kv_type {
                KvType::F32 => include_str!("shaders/kv_f32.wgsl"),
                KvType::F16 => include_str!("shaders/kv_f16.wgsl"),
                KvType::Q8_0 => include_str!("shaders/kv_q8_0.wgsl"),
            };
            [&sizes, elements, include_str!("shaders/kv_pages.wgsl"), &source()].concat()
        })
    }

    /// Layer `layer`, for operators that read it.
    pub(crate) fn read(&self, layer: usize) -> &BindGroup {
        &self.layers[layer].read
    }
}

/// Words of the keys or the values of one head of one token.
fn row_words(kv_type: KvType, dim: usize) -> usize {
    match kv_type {
        KvType::F32 => dim,
        KvType::F16 => dim.div_ceil(2),
        KvType::Q8_0 => dim.div_ceil(4) + dim.div_ceil(BLOCK),
    }
}

/// Bytes of a page of a layer.
fn page_bytes(kv_type: KvType, shape: KvShape) -> u64 {
    let words = row_words(kv_type, shape.key_dim) + row_words(kv_type, shape.value_dim);
    4 * (PAGE_ROWS * shape.heads * words) as u64
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use wgpu::{BufferDescriptor, BufferUsages, MapMode, PollType};

    use super::*;
    use crate::pass::Memory;
    use crate::probe::tests::gpu;

    const SLOTS: usize = 3;

    /// The words of a head's row: codes, and scales.
    fn words(kv_type: KvType, row: &[f32]) -> [Vec<u32>; 2] {
        let pack = |chunk: &[f32], bits: usize, code: &dyn Fn(f32) -> u32| {
            chunk.iter().enumerate().fold(0, |word, (part, &value)| word | code(value) << (bits * part))
        };
        match kv_type {
            KvType::F32 => [row.iter().map(|value| value.to_bits()).collect(), vec![]],
            KvType::F16 => {
                let code = |value| u32::from(f16::from_f32(value).to_bits());
                [row.chunks(2).map(|chunk| pack(chunk, 16, &code)).collect(), vec![]]
            }
            KvType::Q8_0 => {
                let (mut codes, mut scales) = (Vec::new(), Vec::new());
                for block in row.chunks(32) {
                    let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                    scales.push(f16::from_f32(largest / 127.0).to_f32().to_bits());
                    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                    let code = |value: f32| u32::from((value * inverse).round_ties_even() as i8 as u8);
                    codes.extend(block.chunks(4).map(|chunk| pack(chunk, 8, &code)));
                }
                [codes, scales]
            }
        }
    }

    /// What a layer keeps of each row of all slots, head by head: codes and scales of keys, then of values.
    struct Model {
        kv_type: KvType,
        shape: KvShape,
        rows: Vec<Vec<[Vec<u32>; 4]>>,
    }

    impl Model {
        fn new(kv_type: KvType, shape: KvShape) -> Self {
            let zeros = |dim: usize| words(kv_type, &vec![0.0; dim]);
            let [[a, b], [c, d]] = [zeros(shape.key_dim), zeros(shape.value_dim)];
            Self { kv_type, shape, rows: vec![vec![[a, b, c, d]; shape.heads]; SLOTS * PAGE_ROWS] }
        }

        fn store(&mut self, place: u32, key: &[f32], value: &[f32]) {
            let heads = key.chunks(self.shape.key_dim).zip(value.chunks(self.shape.value_dim));
            self.rows[place as usize] = heads
                .map(|(key, value)| {
                    let [[a, b], [c, d]] = [words(self.kv_type, key), words(self.kv_type, value)];
                    [a, b, c, d]
                })
                .collect();
        }

        fn words(&self) -> Vec<u32> {
            let mut words = Vec::new();
            for page in self.rows.chunks(PAGE_ROWS) {
                for (head, part) in (0..self.shape.heads).flat_map(|head| [(head, 0), (head, 1)]) {
                    for word in 0..page[0][head][part].len() {
                        words.extend(page.iter().map(|row| row[head][part][word]));
                    }
                }
                for (head, part) in (0..self.shape.heads).flat_map(|head| [(head, 2), (head, 3)]) {
                    words.extend(page.iter().flat_map(|row| &row[head][part]));
                }
            }
            words
        }
    }

    fn read(gpu: &Gpu, buffer: &Buffer, words: usize) -> Vec<u32> {
        let (label, size) = (None, 4 * words as u64);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging =
            gpu.device.create_buffer(&BufferDescriptor { label, size, usage, mapped_at_creation: false });
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        gpu.queue.submit([encoder.finish()]);
        staging.map_async(MapMode::Read, .., |_| {});
        gpu.device.poll(PollType::wait_indefinitely()).unwrap();
        let view = staging.get_mapped_range(..).unwrap();
        view.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    }

    /// Memory of two layers, and what it should hold.
    struct Pair<'a> {
        gpu: &'a Gpu,
        memory: Memory,
        kv: KvMemory,
        models: [Model; 2],
    }

    impl<'a> Pair<'a> {
        fn new(gpu: &'a Gpu, kv_type: KvType, shapes: [KvShape; 2]) -> Self {
            let memory = Memory::new(gpu).unwrap();
            let kv = KvMemory::new(gpu, kv_type, shapes, SLOTS).unwrap();
            Self { gpu, memory, kv, models: shapes.map(|shape| Model::new(kv_type, shape)) }
        }

        fn store(&mut self, places: &[u32], mut value: impl FnMut() -> f32) {
            let mut pass = Pass::default();
            let at = pass.put_words(places.to_vec());
            for (layer, model) in self.models.iter_mut().enumerate() {
                let KvShape { heads, key_dim, value_dim } = model.shape;
                let [keys, values] = [key_dim, value_dim]
                    .map(|dim| (0..places.len() * heads * dim).map(|_| value()).collect::<Vec<_>>());
                let rows = keys.chunks(heads * key_dim).zip(values.chunks(heads * value_dim));
                for (&place, (key, value)) in places.iter().zip(rows) {
                    model.store(place, key, value);
                }
                let count = places.len();
                // Behind each row stands something that is not stored.
                let [keys, values] =
                    [(keys, heads * key_dim), (values, heads * value_dim)].map(|(rows, width)| {
                        let rows =
                            rows.chunks(width).flat_map(|row| row.iter().copied().chain([f32::NAN; 3]));
                        Rows { at: pass.put_floats(rows.collect()), width: width + 3, count }
                    });
                let rows = StoredRows { keys, values, places: at };
                self.kv.store(self.gpu, &mut pass, layer, rows);
            }
            self.memory.run(self.gpu, &pass).unwrap();
        }

        fn move_rows(&mut self, moves: &[[u32; 2]]) {
            let mut pass = Pass::default();
            self.kv.move_rows(self.gpu, &mut pass, moves);
            self.memory.run(self.gpu, &pass).unwrap();
            for model in &mut self.models {
                for [from, to] in moves.iter().map(|places| places.map(|place| place as usize)) {
                    model.rows[to] = model.rows[from].clone();
                }
            }
        }

        fn copy_page(&mut self, from: u32, to: u32) {
            self.kv.copy_page(self.gpu, from, to);
            for model in &mut self.models {
                let start = from as usize * PAGE_ROWS;
                let page = model.rows[start..start + PAGE_ROWS].to_vec();
                model.rows[to as usize * PAGE_ROWS..][..PAGE_ROWS].clone_from_slice(&page);
            }
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let mut bytes = 0;
            for (model, layer) in self.models.iter().zip(&self.kv.layers) {
                let expected = model.words();
                prop_assert_eq!(&read(self.gpu, &layer.buffer, expected.len()), &expected);
                bytes += 4 * expected.len();
            }
            let shapes = self.models.iter().map(|model| model.shape);
            prop_assert_eq!(KvMemory::slot_bytes(self.kv.kv_type(), shapes) as usize * SLOTS, bytes);
            Ok(())
        }
    }

    /// Ascending moves within a sequence whose rows are in slots 2, 0, 1: those from `rows` on, together.
    fn moves(mut rows: Vec<usize>, to: usize) -> Vec<[u32; 2]> {
        let place = |row: usize| place([2, 0, 1][row / PAGE_ROWS], row);
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|row| *row >= to);
        rows.iter().zip(to..).map(|(from, to)| [place(*from), place(to)]).collect()
    }

    #[test]
    fn stored_moved_and_copied_rows_are_those_of_a_plain_model() {
        let Some(gpu) = gpu() else { return };
        let dim = || prop::sample::select(vec![1usize, 6, 24, 33, 80, 128]);
        let shape = move || {
            (1usize..4, dim(), dim()).prop_map(|(heads, key_dim, value_dim)| KvShape {
                heads,
                key_dim,
                value_dim,
            })
        };
        let row = 0..SLOTS * PAGE_ROWS;
        let cases = (
            prop::sample::select(KvType::ALL.to_vec()),
            [shape(), shape()],
            prop::collection::hash_set(row.clone(), 1..SLOTS * PAGE_ROWS),
            (prop::collection::vec(row.clone(), 0..40), row),
            any::<u64>(),
        );
        let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new(config);
        let run = runner.run(&cases, |(kv_type, shapes, rows, (moved, to), seed)| {
            let mut pair = Pair::new(&gpu, kv_type, shapes);
            let places: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
            let mut state = seed | 1;
            let mut draw = || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 33) as u32
            };
            // Blocks whose codes are multiples of a unit, with values in the middle between two of them.
            let unit = draw() as f32 * 2f32.powi(-44 + (draw() % 24) as i32);
            let value = || match (draw() % 8, draw() % 255) {
                (0, _) => 0.0,
                (1, bits) => {
                    if bits % 2 == 0 {
                        127.0 * unit
                    } else {
                        -127.0 * unit
                    }
                }
                (2..5, bits) => (bits as f32 - 127.5) * unit,
                (_, bits) => (bits as f32 - 127.0 + draw() as f32 * 2f32.powi(-32)) * unit,
            };
            pair.store(&places, value);
            pair.check()?;
            pair.move_rows(&moves(moved, to));
            pair.check()?;
            pair.copy_page(2, 1);
            pair.check()
        });
        run.unwrap();
    }

    #[test]
    fn codes_of_what_is_no_number_are_those_of_the_cpu() {
        let Some(gpu) = gpu() else { return };
        let shape = KvShape { heads: 1, key_dim: 4, value_dim: 4 };
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-42] {
            let mut pair = Pair::new(&gpu, KvType::Q8_0, [shape; 2]);
            let mut values = [1.0, odd, -3.0, odd, 0.0, odd, -odd, 0.0].into_iter().cycle();
            pair.store(&[70], || values.next().unwrap());
            pair.check().unwrap();
        }
    }

    #[test]
    fn a_buffer_that_operators_cannot_see_is_an_error_that_says_so() {
        let Some(gpu) = gpu() else { return };
        let shape = KvShape { heads: 64, key_dim: 256, value_dim: 256 };
        let error = KvMemory::new(&gpu, KvType::F32, [shape], 1 << 20).unwrap_err();
        let limit = gpu.largest_binding().min(INDEXED_BYTES);
        assert!(error.to_string().contains(&format!("{} bytes", (64u64 * 64 * 512 * 4) << 20)), "{error}");
        assert!(error.to_string().contains(&limit.to_string()), "{error}");
    }
}
