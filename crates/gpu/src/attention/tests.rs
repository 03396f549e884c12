//! Attention on the GPU beside the CPU's: sequences that grow by trees of nodes, of which a path stays.

use std::cell::RefCell;
use std::sync::Arc;

use lookahead_kernels::{
    Attended, AttentionScratch, AttentionShape, Isa, Kernels, KvLayout, KvPage, KvType, PAGE_ROWS,
    VisibleRows, alibi_slope, attention,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::kv_pages::{StoredRows, place};
use crate::pass::Memory;
use crate::probe::tests::gpu;
use crate::rows::Rows;

/// The layer that is attended to; another is there to be left alone.
const LAYER: usize = 1;
const OTHER: KvShape = KvShape { heads: 1, key_dim: 8, value_dim: 24 };
/// Rows that a sequence grows by, at most.
const GROWTH: usize = 40;

/// An attention operator.
#[derive(Clone, Debug)]
struct Case {
    kv_type: KvType,
    shape: KvShape,
    group: usize,
    window: Option<Window>,
    soft_cap: Option<f32>,
    alibi: bool,
    has_sinks: bool,
    /// Nodes that have room for their chunks.
    at_once: usize,
}

/// A sequence, on both sides.
struct Sequence {
    pages: Vec<Arc<KvPage>>,
    slots: Vec<u32>,
    len: usize,
}

/// The same caches on the CPU and on the GPU.
struct Pair<'a> {
    gpu: &'a Gpu,
    case: Case,
    layout: KvLayout,
    kv: KvMemory,
    memory: RefCell<Memory>,
    sequences: Vec<Sequence>,
    sinks: Vec<f32>,
    slopes_at: usize,
    sinks_at: usize,
    drawn: u64,
}

impl<'a> Pair<'a> {
    /// Sequences with room for these contexts, in pages at `slots`.
    fn new(gpu: &'a Gpu, case: Case, contexts: &[usize], slots: &[u32]) -> Self {
        let shapes = [OTHER, case.shape];
        let layout = KvLayout::new(case.kv_type, shapes);
        let kv = KvMemory::new(gpu, case.kv_type, shapes, slots.len()).unwrap();
        let page = || {
            let mut page = KvPage::new(&layout).unwrap();
            page.bytes_mut().fill(0xff);
            Arc::new(page)
        };
        let mut free = slots.iter().copied();
        let sequences = contexts.iter().map(|context| {
            let slots: Vec<u32> = free.by_ref().take((context + GROWTH).div_ceil(PAGE_ROWS)).collect();
            Sequence { pages: slots.iter().map(|_| page()).collect(), slots, len: 0 }
        });
        let sequences = sequences.collect();
        let heads = case.group * case.shape.heads;
        let mut memory = Memory::new(gpu).unwrap();
        let slopes: Vec<f32> = (0..heads).map(|head| alibi_slope(head, heads)).collect();
        let slopes_at = memory.add_constants(&slopes);
        let sinks: Vec<f32> = (0..heads).map(|head| head as f32 * 1.7 - 4.0).collect();
        let sinks_at = memory.add_constants(&sinks);
        let memory = RefCell::new(memory);
        let mut pair =
            Self { gpu, case, layout, kv, memory, sequences, sinks, slopes_at, sinks_at, drawn: 1 };
        pair.spoil();
        pair
    }

    /// Stores what is no number everywhere: rows that were not written must not be read.
    fn spoil(&mut self) {
        let slots = self.sequences.iter().flat_map(|sequence| &sequence.slots);
        let places = slots.flat_map(|&slot| (0..PAGE_ROWS).map(move |row| place(slot, row)));
        let places: Vec<u32> = places.collect();
        let KvShape { heads, key_dim, value_dim } = self.case.shape;
        let width = heads * key_dim.max(value_dim);
        let mut pass = Pass::default();
        let count = places.len();
        let rows = Rows { at: pass.put_floats(vec![f32::INFINITY; count * width]), width, count };
        let rows = StoredRows { keys: rows, values: rows, places: pass.put_words(places) };
        self.kv.store(self.gpu, &mut pass, LAYER, rows);
        self.memory.borrow_mut().run(self.gpu, &pass).unwrap();
    }

    /// Numbers between -2 and 2.
    fn draw(&mut self, len: usize) -> Vec<f32> {
        let mut next = || {
            self.drawn = self.drawn.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((self.drawn >> 40) as f32 - 8_388_608.0) / 4_194_304.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Adds so many rows behind each sequence, as a pass that is recorded does.
    fn store(&mut self, pass: &mut Pass, counts: &[usize]) {
        let KvShape { heads, key_dim, value_dim } = self.case.shape;
        let nodes = counts.iter().sum::<usize>();
        let keys = self.draw(nodes * heads * key_dim);
        let values = self.draw(nodes * heads * value_dim);
        let mut rows = keys.chunks(heads * key_dim).zip(values.chunks(heads * value_dim));
        let mut places = Vec::new();
        for (sequence, &count) in self.sequences.iter_mut().zip(counts) {
            for (row, (key, value)) in (sequence.len..sequence.len + count).zip(&mut rows) {
                self.layout.write(&mut sequence.pages, LAYER, row, key, value);
                places.push(place(sequence.slots[row / PAGE_ROWS], row));
            }
        }
        let places = pass.put_words(places);
        let [keys, values] = [(keys, key_dim), (values, value_dim)].map(|(rows, dim)| Rows {
            at: pass.put_floats(rows),
            width: heads * dim,
            count: nodes,
        });
        self.kv.store(self.gpu, pass, LAYER, StoredRows { keys, values, places });
    }

    /// Computes a tree behind each sequence, node `i` of which hangs off `parents[i] - 1`, or the context; returns the results of the GPU
    /// and of the CPU.
    fn attend(&mut self, trees: &[Vec<usize>]) -> [Vec<u32>; 2] {
        let Case { shape, group, window, soft_cap, alibi, has_sinks, .. } = self.case;
        let heads = shape.heads * group;
        let mut pass = Pass::default();
        let counts: Vec<usize> = trees.iter().map(Vec::len).collect();
        self.store(&mut pass, &counts);
        let nodes: usize = counts.iter().sum();
        let queries = self.draw(nodes * heads * shape.key_dim);
        let (mut seen, mut visible) = (SeenRows::default(), Vec::new());
        for (sequence, parents) in self.sequences.iter().zip(trees) {
            let mut rows = VisibleRows::default();
            seen.begin_sequence(sequence.slots.iter().copied());
            for path in paths(parents) {
                // As passes do, a path that goes on where the context ends belongs to it.
                let in_order = path.iter().enumerate().take_while(|&(depth, &node)| depth == node).count();
                let context = sequence.len + in_order;
                let path = path[in_order..].iter().map(|node| (sequence.len + node) as u32);
                rows.push(context, path.clone());
                seen.push(context, path);
            }
            visible.push(rows);
        }
        let operator = Attention {
            kv: &self.kv,
            layer: LAYER,
            heads,
            scale: 0.3,
            window,
            soft_cap,
            slopes: alibi.then_some(self.slopes_at),
            sinks: has_sinks.then_some(self.sinks_at),
        };
        let out = pass.floats(nodes * heads * shape.value_dim);
        // Room for all nodes at once, or for some.
        let room = operator.chunk_floats(&seen, nodes.min(self.case.at_once));
        let chunks = pass.floats(room);
        let places = AttentionPlaces {
            seen: seen.put(&mut pass),
            queries: pass.put_floats(queries.clone()),
            chunks: chunks..chunks + room,
            out,
        };
        operator.record(self.gpu, &mut pass, &seen, &places);
        pass.read(out..out + nodes * heads * shape.value_dim);
        let found = self.memory.borrow_mut().run(self.gpu, &pass).unwrap();

        let sinks = if has_sinks { &self.sinks[..] } else { &[] };
        let attention_shape = AttentionShape { heads, scale: 0.3, window, soft_cap, alibi, sinks };
        let attended = |sequence: usize| Attended {
            layer: self.layout.layer(LAYER, &self.sequences[sequence].pages),
            visible: &visible[sequence],
        };
        let mut expected = vec![f32::NAN; found.len()];
        let (kernels, mut scratch) = (Kernels::with_isa(Isa::SCALAR, 1), AttentionScratch::default());
        let count = self.sequences.len();
        attention(&kernels, attention_shape, &queries, count, &attended, &mut scratch, &mut expected);
        assert!(expected.iter().all(|value| value.is_finite()), "only what was written is seen");
        [found, expected].map(|values| values.iter().map(|value| value.to_bits()).collect())
    }

    /// Keeps the rows of a path of each tree, and moves them to where the context ends.
    fn accept(&mut self, kept: &[Vec<usize>]) {
        let mut moves = Vec::new();
        for (sequence, path) in self.sequences.iter_mut().zip(kept) {
            for (depth, node) in path.iter().enumerate() {
                let (from, to) = (sequence.len + node, sequence.len + depth);
                self.layout.copy_row(&mut sequence.pages, from, to);
                moves.push([from, to].map(|row| place(sequence.slots[row / PAGE_ROWS], row)));
            }
            sequence.len += path.len();
        }
        let mut pass = Pass::default();
        self.kv.move_rows(self.gpu, &mut pass, &moves);
        self.memory.borrow_mut().run(self.gpu, &pass).unwrap();
    }
}

/// The nodes from the root to each node, itself the last.
fn paths(parents: &[usize]) -> Vec<Vec<usize>> {
    let mut paths: Vec<Vec<usize>> = Vec::new();
    for (node, parent) in parents.iter().enumerate() {
        let mut path = if *parent == 0 { Vec::new() } else { paths[parent - 1].clone() };
        path.push(node);
        paths.push(path);
    }
    paths
}

/// Sequences of these contexts grow by a tree, keep the path to its last node, and grow by the same tree again.
fn check(
    gpu: &Gpu,
    case: Case,
    contexts: &[usize],
    trees: &[Vec<usize>],
    slots: &[u32],
) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(gpu, case, contexts, slots);
    let mut pass = Pass::default();
    pair.store(&mut pass, contexts);
    pair.memory.borrow_mut().run(gpu, &pass).unwrap();
    for (sequence, context) in pair.sequences.iter_mut().zip(contexts) {
        sequence.len = *context;
    }
    let [found, expected] = pair.attend(trees);
    prop_assert_eq!(found, expected);
    let kept: Vec<_> = trees.iter().map(|tree| paths(tree).pop().unwrap_or_default()).collect();
    pair.accept(&kept);
    let [found, expected] = pair.attend(trees);
    prop_assert_eq!(found, expected, "behind rows that were moved");
    Ok(())
}

fn cases() -> impl Strategy<Value = Case> {
    let dim = || prop::sample::select(vec![6usize, 24, 33, 80, 96, 128]);
    let positions = || prop_oneof![1usize..5, 1usize..700];
    let window = prop_oneof![
        Just(None),
        positions().prop_map(|positions| Some(Window::Sliding(positions))),
        positions().prop_map(|positions| Some(Window::Chunk(positions))),
    ];
    let sizes =
        (1usize..3, dim(), prop::option::of(dim()), prop::sample::select(vec![1usize, 3, 6]), 1usize..60);
    let scores = (window, prop::option::of(0.5f32..50.0), any::<bool>(), any::<bool>());
    (prop::sample::select(KvType::ALL.to_vec()), sizes, scores).prop_map(
        |(kv_type, (heads, key_dim, value_dim, group, at_once), (window, soft_cap, alibi, has_sinks))| {
            let shape = KvShape { heads, key_dim, value_dim: value_dim.unwrap_or(key_dim) };
            Case { kv_type, shape, group, window, soft_cap, alibi, has_sinks, at_once }
        },
    )
}

#[test]
fn results_are_the_cpus() {
    let Some(gpu) = gpu() else { return };
    let context = prop_oneof![2 => 0usize..70, 2 => 500usize..530, 1 => 1000usize..1200];
    let tree = prop::collection::vec(any::<prop::sample::Index>(), 1..12).prop_map(|parents| {
        parents.iter().enumerate().map(|(node, index)| index.index(node + 1)).collect::<Vec<_>>()
    });
    let sequences = prop::collection::vec((context, tree), 1..=3);
    let slots: Vec<u32> = (0..60).collect();
    let strategy = (cases(), sequences, Just(slots).prop_shuffle());
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&strategy, |(case, sequences, slots)| {
        let (contexts, trees): (Vec<_>, Vec<_>) = sequences.into_iter().unzip();
        check(&gpu, case, &contexts, &trees, &slots)
    });
    run.unwrap();
}

#[test]
fn a_chain_over_the_border_of_a_chunk_has_the_cpus_results() {
    let Some(gpu) = gpu() else { return };
    let slots: Vec<u32> = (0..20).rev().collect();
    let chain: Vec<usize> = (0..20).collect();
    for kv_type in KvType::ALL {
        for (window, soft_cap) in [(None, None), (Some(Window::Sliding(520)), Some(5.0))] {
            let shape = KvShape { heads: 2, key_dim: 64, value_dim: 64 };
            let case = Case {
                kv_type,
                shape,
                group: 2,
                window,
                soft_cap,
                alibi: false,
                has_sinks: true,
                at_once: 30,
            };
            check(&gpu, case, &[2 * ATTENTION_CHUNK - 10], std::slice::from_ref(&chain), &slots).unwrap();
        }
    }
}
