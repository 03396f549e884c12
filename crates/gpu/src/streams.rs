//! Several residual streams: what they are made of, and what they give each other.

use crate::gpu::{Access, Gpu};
use crate::norm::LANE_SUMS;
use crate::pass::Pass;
use crate::rows::Rows;

/// Threads of a workgroup of the operators here.
const THREADS: usize = 64;

/// Scales each row of `rows` so that its mean square is that of the row of `like`, as
/// [`lookahead_kernels::match_magnitude`] does.
///
/// # Panics
/// If the rows of `like` are others.
pub fn match_magnitude(gpu: &Gpu, pass: &mut Pass, rows: Rows, like: Rows) {
    assert_eq!((rows.width, rows.count), (like.width, like.count), "a row for each");
    let source = || [LANE_SUMS, include_str!("shaders/match_magnitude.wgsl")].concat();
    let pipeline = gpu.pipeline("match magnitude", Access::Read, source);
    let parameters = [rows.at, like.at, rows.width].map(|parameter| parameter as u32);
    pass.run(pipeline, None, &parameters, [1, rows.count, 1]);
}

/// What streams are given of sources: `stream + sum of (least + coefficients * modalities) * source`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// The streams' rows, those of all nodes for each stream.
    pub streams: Rows,
    /// Where what becomes of them goes: it may be their own place.
    pub results: Rows,
    /// The sources' rows: others than the results.
    pub sources: Rows,
    /// What a router makes of a node: a row for each.
    pub modalities: Rows,
    /// Where the coefficients lie among the constants: `[stream][source][modality]`.
    pub coefficients: usize,
    /// Added to each share.
    pub least: f32,
}

/// Adds shares of sources to streams.
///
/// # Panics
/// If rows are not those of all nodes.
pub fn add_shares(gpu: &Gpu, pass: &mut Pass, shares: Shares) {
    let Shares { streams, results, sources, modalities, coefficients, least } = shares;
    let (nodes, width) = (modalities.count, streams.width);
    let of_nodes = |rows: Rows| rows.width == width && rows.count.is_multiple_of(nodes.max(1));
    assert!(of_nodes(streams) && of_nodes(sources) && results.len() == streams.len(), "rows of all nodes");
    let [stream_count, source_count] = [streams, sources].map(|rows| rows.count / nodes.max(1));
    let source = || include_str!("shaders/add_shares.wgsl").to_owned();
    let pipeline = gpu.pipeline("add shares", Access::Read, source);
    let parameters = [
        streams.at,
        results.at,
        sources.at,
        source_count,
        modalities.at,
        modalities.width,
        coefficients,
        nodes,
        width,
        least.to_bits() as usize,
    ];
    let groups = [width.div_ceil(THREADS), nodes, stream_count];
    pass.run(pipeline, None, &parameters.map(|parameter| parameter as u32), groups);
}

/// Multiplies each column of `rows` by its factor, constants `[column]` from `factors` on.
pub fn scale_columns(gpu: &Gpu, pass: &mut Pass, rows: Rows, factors: usize) {
    let source = || include_str!("shaders/scale_columns.wgsl").to_owned();
    let pipeline = gpu.pipeline("scale columns", Access::Read, source);
    let parameters = [rows.at, factors, rows.width].map(|parameter| parameter as u32);
    pass.run(pipeline, None, &parameters, [rows.width.div_ceil(THREADS), rows.count, 1]);
}
