//! Queries and keys at their positions.

use lookahead_kernels::RopePairs;

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;

/// Threads of a workgroup of the operators here.
const THREADS: usize = 64;

/// Heads to turn: where they lie in a pass.
#[derive(Clone, Copy, Debug)]
pub struct RotatedHeads {
    /// Nodes.
    pub nodes: usize,
    /// Heads of a node.
    pub heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// How many of these are turned: the first ones.
    pub dimensions: usize,
    /// Which of them form a pair.
    pub pairs: RopePairs,
    /// Floats `[node][head][head_dim]`.
    pub rows: usize,
    /// Floats `[node][pair]`: cosine and sine, as [`RopeTable::angles`](lookahead_kernels::RopeTable::angles) has them.
    pub angles: usize,
}

/// Records that heads are turned, in place.
pub fn rotate(gpu: &Gpu, pass: &mut Pass, heads: RotatedHeads) {
    let pipeline = gpu.pipeline("rotate", Access::Read, || include_str!("shaders/rotate.wgsl").to_owned());
    let RotatedHeads { nodes, heads, head_dim, dimensions, pairs, rows, angles } = heads;
    let half = dimensions / 2;
    let parameters =
        [rows, angles, heads, head_dim, half, usize::from(pairs == RopePairs::Interleaved)].map(|p| p as u32);
    pass.run(pipeline, None, &parameters, [(heads * half).div_ceil(THREADS), nodes, 1]);
}

#[cfg(test)]
mod tests {
    use lookahead_kernels::{Isa, RopeTable};
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::pass::Memory;
    use crate::probe::tests::gpu;

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn heads_are_turned_as_on_the_cpu() {
        let Some(gpu) = gpu() else { return };
        let cases = (
            prop::bool::ANY,
            prop::sample::select(vec![(24usize, 24usize), (80, 32), (96, 96), (128, 64), (7, 6), (5, 0)]),
            1usize..9,
            prop::collection::vec(0usize..300, 1..6),
            prop::collection::vec(-8f32..8.0, 40),
        );
        let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new(config);
        let run = runner.run(&cases, |(is_interleaved, (head_dim, dimensions), heads, positions, values)| {
            let pairs = if is_interleaved { RopePairs::Interleaved } else { RopePairs::Halves };
            let mut table = RopeTable::new(pairs, dimensions, 10_000.0, 0.5, None).with_magnitude(1.1);
            table.reserve(300);
            let nodes = positions.len();
            let mut rows: Vec<f32> = values.into_iter().cycle().take(nodes * heads * head_dim).collect();
            let angles: Vec<f32> = positions
                .iter()
                .flat_map(|&position| table.angles(position).as_flattened())
                .copied()
                .collect();
            let mut pass = Pass::default();
            let [at, angles] = [rows.clone(), angles].map(|values| pass.put_floats(values));
            let turned = RotatedHeads { nodes, heads, head_dim, dimensions, pairs, rows: at, angles };
            rotate(&gpu, &mut pass, turned);
            pass.read(at..at + rows.len());
            let found = Memory::new(&gpu).unwrap().run(&gpu, &pass).unwrap();
            for (row, &position) in rows.chunks_mut(heads * head_dim).zip(&positions) {
                table.rotate(Isa::SCALAR, row, head_dim, position);
            }
            prop_assert_eq!(bits(&found), bits(&rows));
            Ok(())
        });
        run.unwrap();
    }
}
