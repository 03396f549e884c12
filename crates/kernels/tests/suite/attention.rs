//! Attention over trees, and how keys and values lie in pages.

use std::sync::Arc;

use half::f16;
use lookahead_kernels::{
    Attended, AttentionScratch, AttentionShape, Isa, Kernels, KvLayout, KvPage, KvShape, KvType, PAGE_ROWS,
    VisibleRows, Window, attention, exp,
};
use proptest::prelude::*;

/// Positions whose part of the result is computed alone.
const CHUNK: usize = 512;

/// A number for each index: noise of a few binary digits, the same every time.
fn noise(index: usize) -> f32 {
    let bits = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    ((bits.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 44) as f32 / 524_288.0 - 1.0) * 2.0
}

/// What a cache of type `kv_type` keeps of a head's row.
fn stored(kv_type: KvType, row: &[f32]) -> Vec<f32> {
    match kv_type {
        KvType::F32 => row.to_vec(),
        KvType::F16 => row.iter().map(|&value| f16::from_f32(value).to_f32()).collect(),
        KvType::Q8_0 => row
            .chunks(32)
            .flat_map(|block| {
                let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                let scale = f16::from_f32(largest / 127.0).to_f32();
                block.iter().map(move |value| scale * (value * (127.0 / largest)).round_ties_even())
            })
            .collect(),
    }
}

/// A cache's contents: `rows[row][head]`, keys and values as stored.
struct Contents {
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
}

/// A sequence's pages, which held something else before.
struct Sequence {
    kv_type: KvType,
    layout: KvLayout,
    pages: Vec<Arc<KvPage>>,
}

/// The layer of [`Sequence`] that tests use; the others are there to be left alone.
const LAYER: usize = 1;

fn sequence(kv_type: KvType, rows: usize, shape: KvShape) -> Sequence {
    let others =
        [KvShape { heads: 1, key_dim: 8, value_dim: 24 }, KvShape { heads: 2, key_dim: 16, value_dim: 16 }];
    let layout = KvLayout::new(kv_type, [others[0], shape, others[1]]);
    let page = || {
        let mut page = KvPage::new(&layout).unwrap();
        // Not a number, in every type: what is not written must not be read.
        page.bytes_mut().fill(0xff);
        Arc::new(page)
    };
    let pages = (0..rows.div_ceil(PAGE_ROWS)).map(|_| page()).collect();
    Sequence { kv_type, layout, pages }
}

/// The key (`salt` 0) or the value (1) of row `row`, of `width` dimensions in all heads.
fn noise_row(row: usize, salt: usize, width: usize) -> Vec<f32> {
    (0..width).map(|i| noise((row * 2 + salt) * width + i)).collect()
}

fn fill(cache: &mut Sequence, rows: usize, KvShape { heads, key_dim, value_dim }: KvShape) -> Contents {
    let kv_type = cache.kv_type;
    let stored = |row: &[f32], dim: usize| row.chunks(dim).map(|head| stored(kv_type, head)).collect();
    let mut contents = Contents { keys: Vec::new(), values: Vec::new() };
    for index in 0..rows {
        let (key, value) = (noise_row(index, 0, heads * key_dim), noise_row(index, 1, heads * value_dim));
        cache.layout.write(&mut cache.pages, LAYER, index, &key, &value);
        contents.keys.push(stored(&key, key_dim));
        contents.values.push(stored(&value, value_dim));
    }
    contents
}

/// The slope of ALiBi: powers of `2^(-8 / heads)` for a power of two; else those of the power below, then every second one of
/// the power above.
fn alibi_slope(head: usize, heads: usize) -> f32 {
    let below = 1 << heads.ilog2();
    let (index, of) = if head < below { (head + 1, below) } else { (2 * (head - below) + 1, 2 * below) };
    libm::exp2(-8.0 * index as f64 / of as f64) as f32
}

/// The formulas of the attention module's documentation, one value at a time: `rows` in logical order, from position `first` on.
fn definition(
    shape: &AttentionShape<'_>,
    query: &[f32],
    contents: &Contents,
    [query_head, head]: [usize; 2],
    first: usize,
    rows: &[usize],
) -> Vec<f32> {
    let own = first + rows.len() - 1;
    let value_dim = contents.values[rows[0]][head].len();
    let mut parts: Vec<(f32, f32, Vec<f32>)> = Vec::new();
    let mut position = first;
    let mut rest = rows;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at((CHUNK - position % CHUNK).min(rest.len()));
        (rest, position) = (behind, position + chunk.len());
        let scores: Vec<f32> = chunk
            .iter()
            .zip(position - chunk.len()..)
            .map(|(&row, position)| {
                let dot = query
                    .iter()
                    .zip(&contents.keys[row][head])
                    .fold(0.0f32, |dot, (q, k)| q.mul_add(*k, dot));
                let score = dot * shape.scale;
                let score =
                    shape.soft_cap.map_or(score, |cap| cap * (1.0 - 2.0 / (1.0 + exp(2.0 * (score / cap)))));
                if !shape.alibi {
                    return score;
                }
                (-alibi_slope(query_head, shape.heads)).mul_add((own - position) as f32, score)
            })
            .collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let p: Vec<f32> = scores.iter().map(|score| exp(score - largest)).collect();
        let mut lanes = [0.0f32; 8];
        p.iter().enumerate().for_each(|(j, p)| lanes[j % 8] += p);
        let sum =
            ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
        let out = (0..value_dim)
            .map(|d| {
                chunk
                    .iter()
                    .zip(&p)
                    .fold(0.0f32, |out, (&row, p)| p.mul_add(contents.values[row][head][d], out))
            })
            .collect();
        parts.push((largest, sum, out));
    }
    let sink = shape.sinks.get(query_head).copied();
    let largest = parts.iter().map(|part| part.0).chain(sink).fold(f32::NEG_INFINITY, f32::max);
    let scales: Vec<f32> = parts.iter().map(|part| exp(part.0 - largest)).collect();
    let sink = sink.map_or(0.0, |sink| exp(sink - largest));
    let total = parts.iter().zip(&scales).fold(sink, |total, (part, scale)| scale.mul_add(part.1, total));
    (0..value_dim)
        .map(|d| {
            parts.iter().zip(&scales).fold(0.0f32, |out, (part, scale)| scale.mul_add(part.2[d], out)) / total
        })
        .collect()
}

/// Nodes of a random tree behind `context` rows: node `i` hangs off `parents[i]`, an earlier node or the context.
fn paths(parents: &[usize]) -> Vec<Vec<u32>> {
    let mut paths: Vec<Vec<u32>> = Vec::new();
    for (node, parent) in parents.iter().enumerate() {
        let mut path = if *parent == 0 { Vec::new() } else { paths[parent - 1].clone() };
        path.push(node as u32);
        paths.push(path);
    }
    paths
}

fn check(
    kv_type: KvType,
    (kv_shape, group): (KvShape, usize),
    context: usize,
    parents: &[usize],
    window: Option<Window>,
    (soft_cap, alibi, has_sinks): (Option<f32>, bool, bool),
) {
    let rows = context + parents.len();
    let mut cache = sequence(kv_type, rows, kv_shape);
    let contents = fill(&mut cache, rows, kv_shape);
    let KvShape { heads: kv_heads, key_dim, value_dim } = kv_shape;
    let heads = group * kv_heads;
    let sinks: Vec<f32> = (0..heads).map(|head| 4.0 * noise(head + 5)).collect();
    let sinks = if has_sinks { &sinks[..] } else { &[] };
    let shape = AttentionShape { heads, scale: 0.3, window, soft_cap, alibi, sinks };
    let queries: Vec<f32> = (0..parents.len() * shape.heads * key_dim).map(|i| noise(i + 77)).collect();
    let mut visible = VisibleRows::default();
    let mut expected = Vec::new();
    for (node, path) in paths(parents).iter().enumerate() {
        // As the forward pass does, a path that goes on where the context ends belongs to it.
        let in_order = path.iter().enumerate().take_while(|&(depth, &node)| depth == node as usize).count();
        let path: Vec<u32> = path[in_order..].iter().map(|node| node + context as u32).collect();
        visible.push(context + in_order, path.iter().copied());
        let rows: Vec<usize> = (0..context + in_order).chain(path.iter().map(|&row| row as usize)).collect();
        let first = match window {
            None => 0,
            Some(Window::Sliding(positions)) => rows.len().saturating_sub(positions),
            Some(Window::Chunk(positions)) => (rows.len() - 1) / positions * positions,
        };
        for head in 0..shape.heads {
            let query = &queries[(node * shape.heads + head) * key_dim..][..key_dim];
            let values = definition(&shape, query, &contents, [head, head / group], first, &rows[first..]);
            expected.extend(values.iter().map(|value| value.to_bits()));
        }
    }
    for isa in Isa::available() {
        for threads in [1, 3] {
            let kernels = Kernels::with_isa(isa, threads);
            let mut out = vec![f32::NAN; parents.len() * shape.heads * value_dim];
            let mut scratch = AttentionScratch::default();
            let layer = cache.layout.layer(LAYER, &cache.pages);
            let sequence = |_| Attended { layer, visible: &visible };
            attention(&kernels, shape, &queries, 1, &sequence, &mut scratch, &mut out);
            let found: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
            assert_eq!(found, expected, "{isa:?}, {threads} threads");
        }
    }
}

/// Of keys and of values.
const DIMENSIONS: [usize; 8] = [4, 8, 12, 16, 32, 64, 80, 128];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn every_kernel_gives_the_bits_of_the_definition(
        kv_type in prop::sample::select(KvType::ALL.to_vec()),
        key_dim in prop::sample::select(DIMENSIONS.to_vec()),
        value_dim in prop::option::of(prop::sample::select(DIMENSIONS.to_vec())),
        group in 1usize..6,
        kv_heads in 1usize..3,
        context in prop_oneof![0usize..70, 500usize..530],
        parents in prop::collection::vec(any::<prop::sample::Index>(), 1..24),
        window in prop_oneof![
            Just(None),
            (1usize..100).prop_map(|positions| Some(Window::Sliding(positions))),
            (1usize..100).prop_map(|positions| Some(Window::Chunk(positions))),
        ],
        soft_cap in prop_oneof![Just(None), (0.5f32..50.0).prop_map(Some)],
        alibi in any::<bool>(),
        has_sinks in any::<bool>(),
    ) {
        let parents: Vec<usize> = parents.iter().enumerate().map(|(node, index)| index.index(node + 1)).collect();
        let kv_shape = KvShape { heads: kv_heads, key_dim, value_dim: value_dim.unwrap_or(key_dim) };
        check(kv_type, (kv_shape, group), context, &parents, window, (soft_cap, alibi, has_sinks));
    }
}

#[test]
fn a_chain_over_several_chunks_gives_the_bits_of_the_definition() {
    let chain: Vec<usize> = (0..40).collect();
    for kv_type in KvType::ALL {
        let [one, two] = [1, 2].map(|heads| KvShape { heads, key_dim: 32, value_dim: 32 });
        check(kv_type, (one, 3), 2 * CHUNK - 20, &chain, None, (Some(4.0), true, false));
        check(
            kv_type,
            (two, 2),
            2 * CHUNK - 20,
            &chain,
            Some(Window::Sliding(CHUNK + 7)),
            (None, false, true),
        );
        check(
            kv_type,
            (two, 2),
            2 * CHUNK - 20,
            &chain,
            Some(Window::Chunk(CHUNK - 3)),
            (None, false, false),
        );
    }
}

#[test]
fn sequences_that_are_computed_at_once_have_the_bits_of_each_alone() {
    let kv_shape = KvShape { heads: 2, key_dim: 16, value_dim: 32 };
    let shape =
        AttentionShape { heads: 6, scale: 0.3, window: None, soft_cap: None, alibi: true, sinks: &[] };
    for kv_type in KvType::ALL {
        // Of one chunk of positions and of several; of one tile of queries and of several; one has no nodes.
        let sequences =
            [(3, 2), (2 * CHUNK - 5, 9), (40, 0), (130, 1), (CHUNK - 1, 7)].map(|(context, nodes)| {
                let mut cache = sequence(kv_type, context + nodes, kv_shape);
                fill(&mut cache, context + nodes, kv_shape);
                let mut visible = VisibleRows::default();
                (0..nodes).for_each(|node| visible.push(context + node + 1, std::iter::empty()));
                (cache, visible)
            });
        let attended = sequences
            .each_ref()
            .map(|(cache, visible)| Attended { layer: cache.layout.layer(LAYER, &cache.pages), visible });
        let nodes = |attended: &[Attended<'_>]| attended.iter().map(|one| one.visible.len()).sum::<usize>();
        let (query_width, width) = (shape.heads * kv_shape.key_dim, shape.heads * kv_shape.value_dim);
        let queries: Vec<f32> = (0..nodes(&attended) * query_width).map(|i| noise(i + 77)).collect();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let kernels = Kernels::with_isa(isa, threads);
                let run = |attended: &[Attended<'_>], queries: &[f32]| {
                    let mut out = vec![f32::NAN; nodes(attended) * width];
                    let mut scratch = AttentionScratch::default();
                    let sequence = |index: usize| attended[index];
                    attention(&kernels, shape, queries, attended.len(), &sequence, &mut scratch, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let mut left = &queries[..];
                let mut expected = Vec::new();
                for one in &attended {
                    let (own, rest) = left.split_at(one.visible.len() * query_width);
                    expected.extend(run(&[*one], own));
                    left = rest;
                }
                assert_eq!(run(&attended, &queries), expected, "{kv_type}, {isa:?}, {threads} threads");
                assert!(run(&[], &[]).is_empty());
            }
        }
    }
}

#[test]
fn a_copied_row_is_the_row() {
    let rows = 2 * PAGE_ROWS;
    for kv_type in KvType::ALL {
        // In one page, and from one to another.
        for (key_dim, value_dim, from, to) in [
            (20, 20, 35, 3),
            (64, 64, 35, 3),
            (64, 20, 35, 3),
            (20, 20, PAGE_ROWS + 5, 7),
            (20, 40, PAGE_ROWS + 5, 7),
            (64, 64, rows - 1, 0),
        ] {
            let shape = KvShape { heads: 2, key_dim, value_dim };
            let [mut moved, mut expected] = [(); 2].map(|()| {
                let mut cache = sequence(kv_type, rows, shape);
                fill(&mut cache, rows, shape);
                cache
            });
            let (key, value) = (noise_row(from, 0, 2 * key_dim), noise_row(from, 1, 2 * value_dim));
            expected.layout.write(&mut expected.pages, LAYER, to, &key, &value);
            moved.layout.copy_row(&mut moved.pages, from, to);
            for (moved, expected) in moved.pages.iter_mut().zip(&mut expected.pages) {
                let [moved, expected] = [moved, expected].map(|page| Arc::get_mut(page).unwrap().bytes_mut());
                assert!(moved == expected, "{kv_type}, {shape:?}, {from}, {to}");
            }
        }
    }
}

#[test]
fn a_type_is_found_by_its_name() {
    for kv_type in KvType::ALL {
        assert_eq!(kv_type.name().parse(), Ok(kv_type));
    }
    let error = "q4_0".parse::<KvType>().unwrap_err().to_string();
    assert!(KvType::ALL.iter().all(|kv_type| error.contains(kv_type.name())), "{error}");
}

#[test]
fn what_a_node_sees_is_told_as_it_was_added() {
    let mut visible = VisibleRows::default();
    visible.push(5, [].into_iter());
    visible.push(3, [4, 9].into_iter());
    visible.push(3, [7].into_iter());
    let seen = [0, 1, 2].map(|node| visible.of_node(node));
    assert_eq!(seen, [(5, &[][..]), (3, &[4, 9]), (3, &[7])]);
}
