//! Parts of heads.

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;

/// A part of each head of rows: where they lie in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadParts {
    /// The first float of the first node's first head.
    pub at: usize,
    /// How far the same head of the next node lies behind it.
    pub node_stride: usize,
    /// How far the next head lies behind it.
    pub head_stride: usize,
}

/// Copies `width` floats of each head of each node.
pub fn copy_heads(
    gpu: &Gpu,
    pass: &mut Pass,
    [nodes, heads, width]: [usize; 3],
    from: HeadParts,
    to: HeadParts,
) {
    /// Threads of a workgroup.
    const THREADS: usize = 64;
    let source = || include_str!("shaders/copy_heads.wgsl").to_owned();
    let pipeline = gpu.pipeline("copy heads", Access::Read, source);
    let places = |parts: HeadParts| [parts.at, parts.node_stride, parts.head_stride];
    let parameters = [&places(from)[..], &places(to), &[width]].concat();
    let parameters: Vec<u32> = parameters.into_iter().map(|parameter| parameter as u32).collect();
    pass.run(pipeline, None, &parameters, [width.div_ceil(THREADS), nodes, heads]);
}
