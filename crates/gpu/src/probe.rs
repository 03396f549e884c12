//! How a GPU computes: each operation that operators are made of, on values that tell apart what devices do, beside the CPU's.

use half::f16;
use lookahead_kernels::exp;

use crate::arithmetic::{Arithmetic, Exactness, Halves, MultiplyAdd, Quotients};
use crate::error::GpuError;
use crate::gpu::{Access, Gpu};
use crate::pass::{Memory, Pass};

/// The operations, in the order of the shader's results.
const OPERATIONS: [&str; 12] = [
    "sums",
    "products",
    "multiply-adds",
    "quotients",
    "roots",
    "exponentials",
    "integers to floats",
    "products of bytes",
    "halves to floats",
    "floats to halves",
    "products and sums of their own",
    "differences",
];
/// Which of them must be right: integers and bits, which no device rounds.
const EXACT: [usize; 3] = [7, 8, 9];

/// Finds out how a GPU computes, and with which arithmetic its results are the CPU's.
pub(crate) fn probe(gpu: &mut Gpu, has_doubles: bool) -> Result<(Arithmetic, Exactness), GpuError> {
    let mut arithmetic = Arithmetic::NATIVE;
    let mut wrong = compare(gpu, arithmetic)?;
    if wrong.contains(&OPERATIONS[2]) {
        arithmetic.multiply_add = if has_doubles { MultiplyAdd::Double } else { MultiplyAdd::Separate };
        wrong = compare(gpu, arithmetic)?;
    }
    if wrong.contains(&OPERATIONS[3]) || wrong.contains(&OPERATIONS[4]) {
        arithmetic.quotients = Quotients::Corrected;
        wrong = compare(gpu, arithmetic)?;
    }
    if wrong.contains(&OPERATIONS[8]) {
        arithmetic.halves = Halves::FromBits;
        wrong = compare(gpu, arithmetic)?;
    }
    if let Some(what) = EXACT.iter().map(|&index| OPERATIONS[index]).find(|what| wrong.contains(what)) {
        return Err(GpuError::ComputesWrongly { name: gpu.name().to_owned(), what: what.to_owned() });
    }
    let exactness = match &wrong[..] {
        [] => Exactness::Bits,
        wrong => Exactness::SelfConsistent { why: format!("it rounds otherwise: {}", wrong.join(", ")) },
    };
    Ok((arithmetic, exactness))
}

/// The operations whose results are not the CPU's.
pub(crate) fn compare(gpu: &mut Gpu, arithmetic: Arithmetic) -> Result<Vec<&'static str>, GpuError> {
    gpu.set_arithmetic(arithmetic);
    let operands = operands();
    let found = run(gpu, &operands)?;
    let mut wrong = Vec::new();
    for (operands, found) in operands.chunks_exact(3).zip(found.chunks_exact(OPERATIONS.len())) {
        let expected = expected([operands[0], operands[1], operands[2]]);
        for ((name, found), expected) in OPERATIONS.iter().zip(found).zip(expected) {
            // What is no number has no bits that are promised.
            let is_equal = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            if !is_equal && !wrong.contains(name) {
                tracing::debug!(
                    "{name} of {operands:?} are {expected:?} on the CPU and {found:?} on {}",
                    gpu.name()
                );
                wrong.push(*name);
            }
        }
    }
    Ok(wrong)
}

fn run(gpu: &Gpu, operands: &[f32]) -> Result<Vec<f32>, GpuError> {
    let count = operands.len() / 3;
    let mut pass = Pass::default();
    let at = pass.put_floats(operands.to_vec());
    let results = pass.floats(OPERATIONS.len() * count);
    let pipeline = gpu.pipeline("probe", Access::Read, || include_str!("shaders/probe.wgsl").to_owned());
    pass.run(pipeline, None, &[count as u32, at as u32, results as u32], [count.div_ceil(64), 1, 1]);
    pass.read(results..results + OPERATIONS.len() * count);
    Memory::new(gpu)?.run(gpu, &pass)
}

/// What the CPU gives.
fn expected([a, b, c]: [f32; 3]) -> [f32; OPERATIONS.len()] {
    let integer = a.to_bits().wrapping_mul(2_654_435_761) as i32 >> (b.to_bits() & 15);
    let bytes = |x: f32| x.to_bits().to_le_bytes().map(|byte| i32::from(byte as i8));
    let dot: i32 = bytes(a).iter().zip(bytes(b)).map(|(a, b)| a * b).sum();
    [
        a + b,
        a * b,
        a.mul_add(b, c),
        a / b,
        a.abs().sqrt(),
        exp(a),
        integer as f32,
        dot as f32,
        f16::from_bits(a.to_bits() as u16).to_f32(),
        f32::from(f16::from_f32(a).to_bits()),
        a * b + c,
        a - b,
    ]
}

/// Operands of three: of all magnitudes that occur, values below the normal ones, and such whose product nearly cancels or whose sum
/// lies in the middle between two floats.
fn operands() -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut operands = Vec::new();
    for round in 0..6000 {
        let mut float = |spread: u64| {
            let bits = next();
            let exponent = 127 - spread as u32 + (bits >> 32) as u32 % (2 * spread as u32 + 1);
            f32::from_bits((bits as u32 & 0x807f_ffff) | exponent << 23)
        };
        let [mut a, mut b, mut c] = [float(5), float(5), float(5)];
        match round % 12 {
            0 => c = -(a * b),
            1 => (a, b) = (float(60), float(60)),
            2 => c = float(30),
            // The sum lies near the middle between two floats, on one side or the other.
            3 => {
                let half_way = a * b;
                c = f32::from_bits(half_way.to_bits() & 0xff80_0000) * 33_554_432.0;
                a = f32::from_bits(a.to_bits() & !0xfff);
                b = f32::from_bits(b.to_bits() & !0xfff);
            }
            4 => a = f32::from_bits(next() as u32 & 0x807f_ffff),
            5 => (a, b) = (a * 1e-20, b * 1e-21),
            6 => c = f32::from_bits(next() as u32 & 0x807f_ffff),
            7 => a = -87.5 - a.abs() / 64.0,
            8 => a *= 20.0,
            9 => (a, b, c) = (a.trunc(), b.trunc() + 0.5, c.trunc()),
            10 => a = f32::from_bits(0x3300_0000 + next() as u32 % 0x1500_0000),
            _ => {}
        }
        operands.extend([a, b, c]);
    }
    // The middle itself, and what lies a little beside it.
    for (b, c) in [(0.5, 8_388_609.0f32), (0.5, 8_388_610.0), (1.5, 8_388_609.0), (2f32.powi(-24), 1.0)] {
        for a in [1.0, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0] {
            operands.extend([a, b, c, -a, b, c, a, b, -c]);
        }
    }
    operands
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, OnceLock};

    use super::*;
    use crate::adapters::adapters;

    /// The GPU that tests run on, if there is one. They share it, and so the operators that it has compiled.
    pub(crate) fn gpu() -> Option<Arc<Gpu>> {
        static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
        GPU.get_or_init(|| open().map(Arc::new)).clone()
    }

    fn open() -> Option<Gpu> {
        let listing = adapters().into_iter().find(|listing| listing.missing.is_none());
        let Some(listing) = listing else {
            eprintln!("no GPU, and none in software: nothing is tested");
            return None;
        };
        Some(Gpu::open(&listing).unwrap())
    }

    #[test]
    fn a_driver_that_computes_on_the_cpu_has_its_bits() {
        let Some(gpu) = gpu() else { return };
        println!("{}: {}, {:?}", gpu.name(), gpu.arithmetic(), gpu.exactness());
        assert_eq!(*gpu.exactness(), Exactness::Bits);
    }

    #[test]
    fn what_is_made_without_the_device_is_what_an_exact_one_makes() {
        let Some(mut gpu) = open() else { return };
        let corrected =
            Arithmetic { quotients: Quotients::Corrected, halves: Halves::FromBits, ..gpu.arithmetic() };
        let wrong = compare(&mut gpu, corrected).unwrap();
        assert_eq!(wrong, Vec::<&str>::new());
    }

    #[test]
    fn a_multiply_add_that_rounds_twice_is_noticed() {
        let Some(mut gpu) = open() else { return };
        let separate = Arithmetic { multiply_add: MultiplyAdd::Separate, ..gpu.arithmetic() };
        assert!(compare(&mut gpu, separate).unwrap().contains(&"multiply-adds"));
    }
}
