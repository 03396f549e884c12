//! The transcendental functions of a transformer: one implementation, shared by all instruction sets.
//!
//! They are plain Rust arithmetic without branches. Compiled for an instruction set they vectorise; as the language
//! neither reorders nor contracts float operations, the bits stay the same.

/// `e^x` to about 2 units in the last place. Saturates at 2.4e38 for `x > 88.37`, and is 0 for `x < -87.33`.
///
/// The method and polynomial are those of Cephes' `expf` (Moshier, 1992): `2^n * e^r` with `|r| <= ln(2) / 2`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LARGEST: f32 = 88.376_26;
    const SMALLEST: f32 = -87.336_54;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let clamped = if x > LARGEST { LARGEST } else { x };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        p = p.mul_add(r, *coefficient);
    }
    let mantissa = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < SMALLEST { 0.0 } else { mantissa * power }
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The tanh approximation of GELU: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, which is `x / (1 + e^(-2u))`.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let u = SQRT_2_OVER_PI * (x * (0.044_715 * x).mul_add(x, 1.0));
    x / (1.0 + exp(-2.0 * u))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative_error(found: f32, expected: f64) -> f64 {
        (f64::from(found) - expected).abs() / expected.abs()
    }

    #[test]
    fn exp_is_within_a_few_units_in_the_last_place() {
        let mut x = -87.0f32;
        while x < 88.3 {
            assert!(relative_error(exp(x), f64::from(x).exp()) < 2.5e-7, "exp({x}) = {}", exp(x));
            x += 0.0137;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1e4) > 2e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_agree_with_double_precision() {
        let mut x = -20.0f32;
        while x < 20.0 {
            let d = f64::from(x);
            let silu_expected = d / (1.0 + (-d).exp());
            assert!((f64::from(silu(x)) - silu_expected).abs() < 1e-6 * d.abs().max(1.0), "silu({x})");
            let u = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044_715 * d * d * d);
            let gelu_expected = 0.5 * d * (1.0 + u.tanh());
            assert!((f64::from(gelu_tanh(x)) - gelu_expected).abs() < 1e-6 * d.abs().max(1.0), "gelu({x})");
            x += 0.0071;
        }
    }
}
