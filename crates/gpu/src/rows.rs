//! Rows of a pass, and the operators on them that are no products.

use lookahead_kernels::Activation;

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;

/// Rows of floats, one a token, side by side: where they lie in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The first float.
    pub at: usize,
    /// Floats of a row.
    pub width: usize,
    /// Rows.
    pub count: usize,
}

impl Rows {
    /// Room for `count` rows of `width` floats.
    pub fn new(pass: &mut Pass, count: usize, width: usize) -> Self {
        Self { at: pass.floats(count * width), width, count }
    }

    /// Floats of all rows.
    pub fn len(&self) -> usize {
        self.width * self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the codes of rows lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// Words of four codes: `[token][column / 4]`
    pub(crate) quads: usize,
    /// Words, the sums of each sixteen codes: `[token][column / 16]`
    pub(crate) sums: usize,
    /// Floats. Of 32 columns: the scale, and the scale times the sum of all codes. Of 256: the scale.
    pub(crate) scales: usize,
}

/// Rows that a matrix is multiplied with, quantized as its weights need them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The rows themselves.
    pub values: Rows,
    /// Quantized, a scale to every 32 columns.
    pub blocks: Option<Codes>,
    /// Quantized, a scale to every 256 columns.
    pub super_blocks: Option<Codes>,
}

impl Codes {
    /// Room for the codes of `count` rows of `width` values, or of fewer, with a scale to every `columns`: 32 or 256.
    pub fn new(pass: &mut Pass, count: usize, width: usize, columns: usize) -> Self {
        Self {
            quads: pass.words(count * width / 4),
            sums: pass.words(count * width / 16),
            scales: pass.floats(count * width / columns * if columns == 256 { 1 } else { 2 }),
        }
    }
}

impl Input {
    /// The `count` rows from row `first` on.
    #[must_use]
    pub fn part(&self, first: usize, count: usize) -> Self {
        let width = self.values.width;
        let codes = |codes: Option<Codes>, scales: usize| {
            codes.map(|Codes { quads, sums, scales: at }| Codes {
                quads: quads + first * width / 4,
                sums: sums + first * width / 16,
                scales: at + first * scales,
            })
        };
        Self {
            values: Rows { at: self.values.at + first * width, width, count },
            blocks: codes(self.blocks, width / 32 * 2),
            super_blocks: codes(self.super_blocks, width / 256),
        }
    }

    /// Quantizes the rows into their codes.
    ///
    /// # Panics
    /// If rows are no whole blocks of what there are codes for.
    pub fn quantize(&self, gpu: &Gpu, pass: &mut Pass) {
        for (codes, columns) in [(self.blocks, 32), (self.super_blocks, 256)] {
            if let Some(codes) = codes {
                quantize(gpu, pass, self.values, columns, codes);
            }
        }
    }
}

fn quantize(gpu: &Gpu, pass: &mut Pass, values: Rows, columns: usize, codes: Codes) {
    let Rows { at, width, count } = values;
    assert!(width.is_multiple_of(columns), "quantized rows are whole blocks of {columns}");
    let is_super = columns == 256;
    let pipeline = gpu.pipeline(&format!("quantize {columns}"), Access::Read, || {
        format!("const IN_SUPER_BLOCKS: bool = {is_super};\n{}", include_str!("shaders/quantize.wgsl"))
    });
    let parameters = [width, count, at, codes.quads, codes.sums, codes.scales].map(|value| value as u32);
    pass.run(pipeline, None, &parameters, [width.div_ceil(64 * 32), count, 1]);
}

/// Sums over rows, for operators that need them.
pub(crate) const LANE_SUMS: &str = include_str!("shaders/lane_sums.wgsl");

/// A norm's weights, among the constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormOf {
    /// Whether the mean is taken off first: layer normalisation.
    pub is_layer: bool,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Where its weights lie.
    pub weight: usize,
    /// How far the weights of a row's next part lie behind those of a part; 0 if all have the same.
    pub weight_stride: usize,
    /// Where its biases lie, if there are any.
    pub bias: Option<usize>,
}

/// `to = norm(from)`, part by part of `part` floats of each row; `to` may be `from`.
///
/// # Panics
/// If rows are no whole parts, or those of `to` are others.
pub fn normalise(gpu: &Gpu, pass: &mut Pass, norm: NormOf, part: usize, from: Rows, to: Rows) {
    assert!(
        from.width.is_multiple_of(part) && (from.width, from.count) == (to.width, to.count),
        "rows of whole parts"
    );
    normalise_parts(gpu, pass, norm, [part, from.width / part], from, to);
}

/// Normalises the first `part` floats of each row, in place.
///
/// # Panics
/// If rows are shorter.
pub fn normalise_first(gpu: &Gpu, pass: &mut Pass, norm: NormOf, part: usize, rows: Rows) {
    assert!(part <= rows.width, "rows of a part");
    normalise_parts(gpu, pass, norm, [part, 1], rows, rows);
}

fn normalise_parts(
    gpu: &Gpu,
    pass: &mut Pass,
    norm: NormOf,
    [part, parts]: [usize; 2],
    from: Rows,
    to: Rows,
) {
    let NormOf { is_layer, epsilon, weight, weight_stride, bias } = norm;
    let pipeline = gpu.pipeline(&format!("normalise {is_layer}"), Access::Read, || {
        let constant = format!("const IS_LAYER: bool = {is_layer};\n");
        [&constant, LANE_SUMS, include_str!("shaders/normalise.wgsl")].concat()
    });
    let places =
        [from.at, from.width, to.at, to.width, part, weight_stride, weight, bias.map_or(0, |at| at + 1)];
    let mut parameters = places.map(|place| place as u32).to_vec();
    parameters.push(epsilon.to_bits());
    pass.run(pipeline, None, &parameters, [parts, from.count, 1]);
}

/// Leaves of each row of `rows` what lies `deviations` standard deviations above its mean, and nothing of the other values.
pub fn keep_outliers(gpu: &Gpu, pass: &mut Pass, rows: Rows, deviations: f32) {
    let source = || [LANE_SUMS, include_str!("shaders/keep_outliers.wgsl")].concat();
    let pipeline = gpu.pipeline("keep outliers", Access::Read, source);
    let parameters = [rows.at as u32, rows.width as u32, deviations.to_bits()];
    pass.run(pipeline, None, &parameters, [1, rows.count, 1]);
}

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
    /// `to *= factor`
    Scale(f32),
    /// `to = activation(to)`
    Activate(Activation),
    /// `to = activation(to) * from`
    Gate(Activation),
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
            Self::Scale(_) => "x * p.value".to_owned(),
            Self::Activate(activation) => activation_of(activation).to_owned(),
            Self::Gate(Activation::ClampedSwish) => {
                "clamped_swish(x) * (clamp(other, -7.0f, 7.0f) + 1.0f)".to_owned()
            }
            Self::Gate(activation) => format!("{} * other", activation_of(activation)),
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

/// Changes each value of `to` by the value of `from` at its place. Rows of `from` may be longer; `rows` says where in the pass's words the
/// number of the row for each is, if it is not its own.
///
/// # Panics
/// If there are fewer rows of `from`, or they are shorter.
pub fn elementwise(
    gpu: &Gpu,
    pass: &mut Pass,
    operation: Elementwise,
    to: Rows,
    from: Rows,
    rows: Option<usize>,
) {
    assert!(from.width >= to.width && (rows.is_some() || from.count >= to.count), "a value for each");
    let expression = operation.expression();
    let pipeline = gpu.pipeline(&format!("elementwise {expression}"), Access::Read, || {
        let operation = format!("fn operation(x: f32, other: f32) -> f32 {{ return {expression}; }}\n");
        operation + include_str!("shaders/elementwise.wgsl")
    });
    let places = [to.at, from.at, to.width, from.width, to.width].map(|place| place as u32);
    let numbers = operation.numbers().map(f32::to_bits);
    let parameters = [&places[..], &numbers, &[rows.map_or(0, |at| at as u32 + 1)]].concat();
    pass.run(pipeline, None, &parameters, [to.width.div_ceil(64), to.count, 1]);
}
