//! The transcendental functions of a transformer: one implementation, shared by all instruction sets.
//!
//! They are plain Rust arithmetic without branches. Compiled for an instruction set they vectorise; as the language
//! neither reorders nor contracts float operations, the bits stay the same.

/// `e^x` to about 2 units in the last place. Saturates at 2.4e38 for `x > 88.37`, and is 0 for `x < -87.33`.
///
/// Multiply-adds are fused: a single instruction in code that is compiled for an instruction set that has it, as all kernels
/// are, and a slow function elsewhere. Where many are needed there, [`exp_unfused`] serves.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_with::<true>(x)
}

/// As [`exp`], with products rounded before they are added: of other bits, but as good, and quick in code for any CPU.
#[inline(always)]
pub fn exp_unfused(x: f32) -> f32 {
    exp_with::<false>(x)
}

/// The method and polynomial are those of Cephes' `expf` (Moshier, 1992): `2^n * e^r` with `|r| <= ln(2) / 2`.
#[inline(always)]
fn exp_with<const FUSED: bool>(x: f32) -> f32 {
    const LARGEST: f32 = 88.376_26;
    const SMALLEST: f32 = -87.336_54;
    // In two parts, of which the first has few bits: n times it is exact (Cody and Waite, 1980).
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let clamped = if x > LARGEST { LARGEST } else { x };
    let shifted = multiply_add::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FUSED>(n, -LN2_LOW, multiply_add::<FUSED>(n, -LN2_HIGH, clamped));
    let mut p = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        p = multiply_add::<FUSED>(p, r, *coefficient);
    }
    let mantissa = multiply_add::<FUSED>(p, r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < SMALLEST { 0.0 } else { mantissa * power }
}

/// `a * b + c`, rounded once if `FUSED`.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x)`
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let larger = if x > 0.0 { x } else { 0.0 };
    larger + libm::log1pf(exp(-x.abs()))
}

/// The tanh approximation of GELU: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, which is `x / (1 + e^(-2u))`.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let u = SQRT_2_OVER_PI * (x * (0.044_715 * x).mul_add(x, 1.0));
    x / (1.0 + exp(-2.0 * u))
}

/// `tanh x`, as `1 - 2 / (1 + e^(2x))`: to about 1e-7, absolutely.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// GELU (Hendrycks and Gimpel, 2016): `x` times the normal distribution's `P(X <= x)`.
///
/// The tail of the distribution is the Chebyshev fit of `erfc` in Press et al., "Numerical Recipes", section 6.2, good to
/// 1.2e-7 of its value.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    const POLYNOMIAL: [f32; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (0.5 * z + 1.0);
    let mut p = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        p = p.mul_add(t, *coefficient);
    }
    let tail = 0.5 * (t * exp((-z).mul_add(z, p)));
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the platform's functions are good enough to compare with")]
mod tests {
    use super::*;

    fn relative_error(found: f32, expected: f64) -> f64 {
        (f64::from(found) - expected).abs() / expected.abs()
    }

    #[test]
    fn exp_is_within_a_few_units_in_the_last_place() {
        for exp in [exp, exp_unfused] {
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
            let gelu_expected = 0.5 * d * libm::erfc(-d / 2f64.sqrt());
            assert!((f64::from(gelu(x)) - gelu_expected).abs() < 1e-6 * d.abs().max(1.0), "gelu({x})");
            assert!((f64::from(tanh(x)) - d.tanh()).abs() < 3e-7, "tanh({x})");
            x += 0.0071;
        }
    }
}
