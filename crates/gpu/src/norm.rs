//! Norms, and what is added to rows before them.

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;
use crate::rows::{Input, Rows};

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

/// What is added to rows: `rows = scale * (rows + factor * each of added)`, each multiply-add rounded once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Added<'a> {
    /// What is added: two at most.
    pub rows: &'a [Rows],
    /// On each value that is added.
    pub factor: f32,
    /// On the sum.
    pub scale: f32,
}

impl Added<'_> {
    /// Rows stay as they are.
    pub const NOTHING: Self = Self { rows: &[], factor: 1.0, scale: 1.0 };

    fn is_nothing(&self) -> bool {
        self.rows.is_empty() && self.scale == 1.0
    }
}

/// `to = norm(from)`, part by part of `part` floats of each row; `to` may be `from`.
///
/// # Panics
/// If rows are no whole parts, or those of `to` are others.
pub fn normalise(gpu: &Gpu, pass: &mut Pass, norm: NormOf, part: usize, from: Rows, to: Rows) {
    assert!(from.width.is_multiple_of(part), "rows of whole parts");
    let parts = [part, from.width / part];
    record(gpu, pass, Added::NOTHING, Some(norm), parts, from, &Input::unquantized(to));
}

/// Normalises the first `part` floats of each row, in place.
///
/// # Panics
/// If rows are shorter.
pub fn normalise_first(gpu: &Gpu, pass: &mut Pass, norm: NormOf, part: usize, rows: Rows) {
    assert!(part <= rows.width, "rows of a part");
    record(gpu, pass, Added::NOTHING, Some(norm), [part, 1], rows, &Input::unquantized(rows));
}

impl Input {
    /// Adds to `from`, makes the rows of it by a norm, and quantizes them. Without a norm the rows are `from`.
    ///
    /// # Panics
    /// If rows have different sizes, or are no whole blocks of what there are codes for.
    pub fn normalise(&self, gpu: &Gpu, pass: &mut Pass, added: Added<'_>, norm: Option<NormOf>, from: Rows) {
        assert!(norm.is_some() || from == self.values, "rows that stay as they are");
        if norm.is_none() && added.is_nothing() {
            return self.quantize(gpu, pass);
        }
        record(gpu, pass, added, norm, [from.width, 1], from, self);
    }
}

fn record(
    gpu: &Gpu,
    pass: &mut Pass,
    added: Added<'_>,
    norm: Option<NormOf>,
    [part, parts]: [usize; 2],
    from: Rows,
    to: &Input,
) {
    let are_alike = |rows: &Rows| (rows.width, rows.count) == (from.width, from.count);
    assert!(are_alike(&to.values) && added.rows.iter().all(are_alike), "rows of the same size");
    let (is_changed, is_normed, added_count) = (!added.is_nothing(), norm.is_some(), added.rows.len());
    assert!(added_count <= 2, "two results to add");
    let no_norm = NormOf { is_layer: false, epsilon: 0.0, weight: 0, weight_stride: 0, bias: None };
    let NormOf { is_layer, epsilon, weight, weight_stride, bias } = norm.unwrap_or(no_norm);
    let key = format!("normalise {is_changed} {added_count} {is_normed} {is_layer} {:?}", to.forms());
    let pipeline = gpu.pipeline(&key, Access::Read, || {
        let constants = format!(
            "const IS_CHANGED: bool = {is_changed};\nconst IS_NORMED: bool = {is_normed};\nconst IS_LAYER: bool = {is_layer};\nconst ADDED: u32 = {added_count}u;\n"
        );
        [&constants, LANE_SUMS, &to.quantize_source(), include_str!("shaders/normalise.wgsl")].concat()
    });
    let place_of_added = |index: usize| added.rows.get(index).map_or(0, |rows| rows.at);
    let places =
        [from.at, to.values.at, from.width, part, weight_stride, weight, bias.map_or(0, |at| at + 1)];
    let mut parameters = places.map(|place| place as u32).to_vec();
    parameters.extend([epsilon.to_bits(), place_of_added(0) as u32, place_of_added(1) as u32]);
    parameters.extend([added.factor.to_bits(), added.scale.to_bits()]);
    parameters.extend(to.parameters());
    pass.run(pipeline, None, &parameters, [parts, from.count, 1]);
}

/// Leaves of each row of `rows` what lies `deviations` standard deviations above its mean, and nothing of the other values.
pub fn keep_outliers(gpu: &Gpu, pass: &mut Pass, rows: Rows, deviations: f32) {
    let source = || [LANE_SUMS, include_str!("shaders/keep_outliers.wgsl")].concat();
    let pipeline = gpu.pipeline("keep outliers", Access::Read, source);
    let parameters = [rows.at as u32, rows.width as u32, deviations.to_bits()];
    pass.run(pipeline, None, &parameters, [1, rows.count, 1]);
}
