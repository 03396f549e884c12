//! From logits to weights, and the draw by weight.
//!
//! A weight is proportional to a token's probability, and an integer, so that a sum of weights does not
//! depend on the order of its terms. The same on every platform, and quick: the compiler vectorises the loops
//! over a vocabulary.

use lookahead_kernels::exp_unfused;

/// The weight of the most likely token. What rounds to 0 is a trillion times less likely; those of a
/// vocabulary below 2²⁴ tokens add up to less than 2⁶⁴.
pub(super) const FULL_WEIGHT: f64 = (1u64 << 40) as f64;

/// Logits whose weights are added up together; the draw looks at each weight of one block only.
const BLOCK: usize = 512;

/// The weight of a token whose logit, divided by the temperature, is `x` away from the highest; `x` is at
/// most 0.
#[inline]
pub(super) fn weight(x: f32) -> u64 {
    // Adding 2⁵² rounds to the nearest integer, which then stands in the low bits: unlike a cast, this
    // vectorises.
    const ROUND: f64 = (1u64 << 52) as f64;
    // What is less likely than this has no weight, nor has what is no number.
    let x = if x > -64.0 { x } else { -64.0 };
    (f64::from(exp_unfused(x)) * FULL_WEIGHT + ROUND).to_bits() - ROUND.to_bits()
}

/// The sum of all weights of `logits`, of which `max` is the highest.
pub(super) fn total_weight(logits: &[f32], max: f32, temperature: f32) -> u64 {
    logits.iter().map(|&logit| weight((logit - max) / temperature)).sum()
}

/// Draws an index into `logits`, of which `max` is the highest, by weight. `random` is uniform over all
/// 64-bit numbers; `blocks` is scratch. `None` if no logit has any weight.
pub(super) fn draw(
    logits: &[f32],
    max: f32,
    temperature: f32,
    random: u64,
    blocks: &mut Vec<u64>,
) -> Option<usize> {
    blocks.clear();
    blocks.extend(logits.chunks(BLOCK).map(|block| total_weight(block, max, temperature)));
    let total: u64 = blocks.iter().sum();
    let target = ((u128::from(random) * u128::from(total)) >> 64) as u64; // uniform over 0..total
    let (block, left) = find(target, blocks.iter().copied())?;
    let weights = logits.iter().skip(block * BLOCK).map(|&logit| weight((logit - max) / temperature));
    let (index, _) = find(left, weights)?;
    Some(block * BLOCK + index)
}

/// The first index at which the weights up to and with it exceed `target`, and what is left of the target
/// there.
fn find(mut target: u64, weights: impl Iterator<Item = u64>) -> Option<(usize, u64)> {
    for (index, weight) in weights.enumerate() {
        if target < weight {
            return Some((index, target));
        }
        target -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_weight_is_the_probability_beside_the_most_likely(x in -28f32..=0.0) {
            let exact = f64::from(x).exp() * FULL_WEIGHT;
            prop_assert!((weight(x) as f64 - exact).abs() < 1.0 + exact * 3e-7, "{} for {}", weight(x), exact);
        }

        #[test]
        fn a_draw_is_the_first_index_whose_weights_up_to_it_exceed_the_target(
            logits in prop::collection::vec(-30.0f32..0.0, 1..2000),
            random: u64,
        ) {
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let target = (u128::from(random) * u128::from(total_weight(&logits, max, 0.7))) >> 64;
            let mut sum = 0;
            let expected = logits.iter().position(|&logit| {
                sum += u128::from(weight((logit - max) / 0.7));
                sum > target
            });
            prop_assert_eq!(draw(&logits, max, 0.7, random, &mut Vec::new()), expected);
        }
    }

    #[test]
    fn weights_end_where_a_trillionth_is_left() {
        assert_eq!(weight(0.0), 1 << 40);
        assert!(weight(-28.0) > 0);
        assert_eq!([-29.0, -1e30, f32::NEG_INFINITY, f32::NAN].map(weight), [0; 4]);
    }
}
