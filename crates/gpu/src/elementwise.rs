//! Operators on each value of rows alone, and the quantization of what they make of it.

use lookahead_kernels::Activation;

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;
use crate::rows::{Input, Rows};

/// Columns of a workgroup.
const COLUMNS: usize = 256;

/// An operator on each value of rows alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Elementwise {
    /// `to = 0`
    Zero,
    /// `to = from`
    Copy,
    /// `to += from`
    Add,
    /// `to += factor * from`, rounded once.
    AddScaled(f32),
    /// `to *= from`
    Multiply,
    /// `to *= factor`
    Scale(f32),
    /// `to = activation(to)`
    Activate(Activation),
    /// `to = activation(to) * from`
    Gate(Activation),
    /// `to *= sigmoid(from)`
    ScaleBySigmoid,
    /// `to = cap * tanh(to / cap)`
    SoftCap(f32),
    /// `to = tanh(to / divisor)`
    TanhOf(f32),
}

impl Elementwise {
    /// The shader's expression of it, of the value before, `x`, and the other.
    fn expression(self) -> String {
        match self {
            Self::Zero => "0.0f".to_owned(),
            Self::Copy => "other".to_owned(),
            Self::Add => "x + other".to_owned(),
            Self::AddScaled(_) => "multiply_add(p.value, other, x)".to_owned(),
            Self::Multiply => "x * other".to_owned(),
            Self::Scale(_) => "x * p.value".to_owned(),
            Self::Activate(activation) => activation_of(activation).to_owned(),
            Self::Gate(Activation::ClampedSwish) => {
                "clamped_swish(x) * (clamp(other, -7.0f, 7.0f) + 1.0f)".to_owned()
            }
            Self::Gate(activation) => format!("{} * other", activation_of(activation)),
            Self::ScaleBySigmoid => "x * sigmoid(other)".to_owned(),
            Self::SoftCap(_) => "soft_cap(x)".to_owned(),
            Self::TanhOf(_) => "hyperbolic_tangent(divide(x, p.value))".to_owned(),
        }
    }

    /// Its numbers, in the shader's order.
    fn numbers(self) -> [f32; 4] {
        match self {
            Self::AddScaled(value) | Self::Scale(value) | Self::SoftCap(value) | Self::TanhOf(value) => {
                [value, 0.0, 0.0, 0.0]
            }
            Self::Activate(Activation::Xielu { positive, negative, slope, limit })
            | Self::Gate(Activation::Xielu { positive, negative, slope, limit }) => {
                [slope, positive, negative, limit]
            }
            _ => [0.0; 4],
        }
    }
}

fn activation_of(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu(x)",
        Activation::Gelu => "gelu(x)",
        Activation::GeluTanh => "gelu_tanh(x)",
        Activation::Relu => "relu(x)",
        Activation::SquaredRelu => "squared_relu(x)",
        Activation::Sigmoid => "sigmoid(x)",
        Activation::ClampedSwish => "clamped_swish(x)",
        Activation::Xielu { .. } => "xielu(x)",
    }
}

/// Changes each value of `to` by the value of `from` at its place. Rows of `from` may be longer, or have one value for several that stand
/// side by side; `rows` says where in the pass's words the number of the row for each is, if it is not its own.
///
/// # Panics
/// If there are fewer rows of `from`, or they are shorter and do not share the values evenly.
pub fn elementwise(
    gpu: &Gpu,
    pass: &mut Pass,
    operation: Elementwise,
    to: Rows,
    from: Rows,
    rows: Option<usize>,
) {
    record(gpu, pass, Some(operation), &Input::unquantized(to), from, rows);
}

impl Input {
    /// Quantizes the rows into their codes.
    ///
    /// # Panics
    /// If rows are no whole blocks of what there are codes for.
    pub fn quantize(&self, gpu: &Gpu, pass: &mut Pass) {
        if self.is_quantized() {
            record(gpu, pass, None, self, self.values, None);
        }
    }

    /// Changes each value of the rows by the value of `from` at its place, as [`elementwise`] does, and quantizes them.
    ///
    /// # Panics
    /// As those two do.
    pub fn change(&self, gpu: &Gpu, pass: &mut Pass, operation: Elementwise, from: Rows) {
        record(gpu, pass, Some(operation), self, from, None);
    }
}

fn record(
    gpu: &Gpu,
    pass: &mut Pass,
    operation: Option<Elementwise>,
    to: &Input,
    from: Rows,
    rows: Option<usize>,
) {
    let Rows { at, width, count } = to.values;
    let repeat = if from.width < width { width / from.width.max(1) } else { 1 };
    assert!(
        (repeat == 1 || from.width * repeat == width) && (rows.is_some() || from.count >= count),
        "a value for each"
    );
    let expression = operation.map(Elementwise::expression);
    let key = format!("elementwise {expression:?} {:?}", to.forms());
    let pipeline = gpu.pipeline(&key, Access::Read, || {
        format!(
            "const HAS_OPERATION: bool = {};\nfn operation(x: f32, other: f32) -> f32 {{ return {}; }}\n{}{}",
            expression.is_some(),
            expression.as_deref().unwrap_or("x"),
            to.quantize_source(),
            include_str!("shaders/elementwise.wgsl"),
        )
    });
    let rows = rows.map_or(0, |at| at + 1);
    let places = [at, from.at, width, from.width, repeat, rows].map(|place| place as u32);
    let numbers = operation.map_or([0.0; 4], Elementwise::numbers).map(f32::to_bits);
    let parameters = [&places[..], &numbers, &to.parameters()].concat();
    pass.run(pipeline, None, &parameters, [width.div_ceil(COLUMNS), count, 1]);
}
