//! Rows on their way to experts and back: each is that of one of the tokens which take the expert.

use crate::gpu::{Access, Gpu};
use crate::pass::Pass;
use crate::rows::Rows;

/// Threads of a workgroup of the operators here.
const THREADS: usize = 64;

/// Which rows are gathered, and what they are multiplied with, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Gathered {
    /// Where the number of each row lies, among the pass's words.
    pub rows: usize,
    /// Where a factor for each column lies, among the constants.
    pub column_factors: Option<usize>,
    /// Where a factor for each row lies, among the pass's floats.
    pub row_factors: Option<usize>,
}

/// Records that `to` becomes rows of `from`, perhaps with factors.
///
/// # Panics
/// If rows have not the same width.
pub fn gather(gpu: &Gpu, pass: &mut Pass, gathered: Gathered, from: Rows, to: Rows) {
    assert_eq!(from.width, to.width, "rows of the same width");
    let pipeline = gpu.pipeline("gather", Access::Read, || include_str!("shaders/gather.wgsl").to_owned());
    let Gathered { rows, column_factors, row_factors } = gathered;
    let place = |factors: Option<usize>| factors.map_or(0, |at| at + 1);
    let parameters = [from.at, to.at, to.width, rows, place(column_factors), place(row_factors)];
    let groups = [to.width.div_ceil(THREADS), to.count, 1];
    pass.run(pipeline, None, &parameters.map(|parameter| parameter as u32), groups);
}

/// Which rows others are added to, and with what factors.
#[derive(Clone, Copy, Debug)]
pub struct Scattered {
    /// Where the number of each row lies, among the pass's words: no number is there twice.
    pub rows: usize,
    /// Where the factor of each row that is added lies, among the pass's floats.
    pub factors: usize,
}

/// Records that `factor * row` is added, rounded once, to a row of `to`, for each row of `from`.
///
/// # Panics
/// If rows have not the same width.
pub fn add_rows(gpu: &Gpu, pass: &mut Pass, scattered: Scattered, from: Rows, to: Rows) {
    assert_eq!(from.width, to.width, "rows of the same width");
    let source = || include_str!("shaders/add_rows.wgsl").to_owned();
    let pipeline = gpu.pipeline("add rows", Access::Read, source);
    let Scattered { rows, factors } = scattered;
    let parameters = [from.at, to.at, to.width, rows, factors].map(|parameter| parameter as u32);
    pass.run(pipeline, None, &parameters, [from.width.div_ceil(THREADS), from.count, 1]);
}
