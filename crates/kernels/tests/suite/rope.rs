//! Rotary position embeddings.

use lookahead_kernels::{Isa, RopePairs, RopeTable};

#[test]
fn a_pair_turns_by_position_times_frequency() {
    let mut table = RopeTable::new(RopePairs::Interleaved, 4, 100.0, 1.0, Some(&[1.0, 2.0]));
    table.reserve(4);
    let mut head = [1.0, 0.0, 0.0, 1.0, 5.0, 6.0];
    table.rotate(Isa::detect(), &mut head, 6, 3);
    // Frequencies 1 and 100^(-1/2) / 2 = 0.05.
    let expected = [3f32.cos(), 3f32.sin(), -(0.15f32.sin()), 0.15f32.cos(), 5.0, 6.0];
    assert!(head.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{head:?}");
}

#[test]
fn a_table_tells_the_angles_that_it_turns_by() {
    let mut table = RopeTable::new(RopePairs::Halves, 4, 100.0, 1.0, None).with_magnitude(0.5);
    table.reserve(8);
    let mut head = [1.0, 1.0, 0.0, 0.0];
    table.rotate(Isa::SCALAR, &mut head, table.dimensions(), 7);
    let [first, second] = [0, 1].map(|pair| [head[pair], head[pair + 2]]);
    assert_eq!((table.pairs(), table.angles(7)), (RopePairs::Halves, &[first, second][..]));
}

#[test]
fn the_two_pairings_differ_only_in_the_order_of_dimensions() {
    let x: Vec<f32> = (0..16).map(|i| i as f32 - 7.5).collect();
    let mut tables =
        [RopePairs::Interleaved, RopePairs::Halves].map(|p| RopeTable::new(p, 16, 1e4, 0.5, None));
    for table in &mut tables {
        table.reserve(10);
    }
    let mut interleaved: Vec<f32> = (0..8).flat_map(|i| [x[i], x[i + 8]]).collect();
    let mut halves = x.clone();
    tables[0].rotate(Isa::SCALAR, &mut interleaved, 16, 9);
    tables[1].rotate(Isa::detect(), &mut halves, 16, 9);
    for i in 0..8 {
        assert_eq!([interleaved[2 * i], interleaved[2 * i + 1]], [halves[i], halves[i + 8]]);
    }
}

#[test]
fn extending_a_table_changes_nothing_in_it() {
    let mut stepwise = RopeTable::new(RopePairs::Halves, 8, 1e4, 1.0, None);
    let mut at_once = stepwise.clone();
    (0..20).for_each(|n| stepwise.reserve(n));
    at_once.reserve(19);
    for position in 0..19 {
        let [stepwise, at_once] = [&stepwise, &at_once].map(|table| {
            let mut head = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            table.rotate(Isa::SCALAR, &mut head, 8, position);
            head
        });
        assert_eq!(stepwise, at_once, "position {position}");
    }
}

#[test]
#[should_panic(expected = "whole heads")]
fn a_part_of_a_head_is_not_left_as_it_is() {
    let mut table = RopeTable::new(RopePairs::Halves, 4, 1e4, 1.0, None);
    table.reserve(2);
    table.rotate(Isa::SCALAR, &mut [0.0; 10], 4, 1);
}
