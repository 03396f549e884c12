//! Parts of heads.

use lookahead_gpu::{HeadParts, copy_heads};
use proptest::prelude::*;

use crate::gpu::{bench, bits};
use crate::noise::Noise;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_of_heads_are_copied_and_nothing_else(
        [nodes, heads] in prop::array::uniform2(1usize..6),
        width in 1usize..150,
        [before, behind, more] in prop::array::uniform3(0usize..20),
        by_head in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let Some(mut bench) = bench() else { return Ok(()) };
        let mut noise = Noise::new(seed);
        let head_dim = before + width + behind;
        let from = noise.floats(nodes * heads * head_dim);
        let wide = width + more;
        let mut to = noise.floats(nodes * heads * wide);
        let [node_stride, head_stride] = if by_head { [wide, nodes * wide] } else { [heads * wide, wide] };
        let pass = &mut bench.pass;
        let [from_at, at] = [from.clone(), to.clone()].map(|values| pass.put_floats(values));
        let source =
            HeadParts { at: from_at + before, node_stride: heads * head_dim, head_stride: head_dim };
        copy_heads(&bench.gpu, pass, [nodes, heads, width], source, HeadParts { at, node_stride, head_stride });
        pass.read(at..at + to.len());
        for (index, head) in from.chunks_exact(head_dim).enumerate() {
            let place = index / heads * node_stride + index % heads * head_stride;
            to[place..][..width].copy_from_slice(&head[before..][..width]);
        }
        prop_assert_eq!(bits(&bench.memory.run(&bench.gpu, pass).unwrap()), bits(&to));
    }
}
