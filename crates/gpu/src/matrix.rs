//! Matrices on a GPU, and products with them.
//!
//! A matrix is uploaded as the CPU's kernels have packed it. An element's terms, exact integers where weights are quantized, are computed
//! unit by unit of columns, by any thread; one thread adds them up in the order of the units, as the CPU does.

use lookahead_kernels::{CodeForm, Matrix, PackedForm, WeightType};
use wgpu::BindGroup;

use crate::error::GpuError;
use crate::gpu::{Access, Gpu};
use crate::pass::Pass;
use crate::rows::{Input, Rows};

/// Up to so many tokens, the threads of a workgroup share the columns of the same rows.
const FEW_TOKENS: usize = 4;
/// Tokens that a thread unpacks a weight for at once, where there are many.
const TILE_TOKENS: usize = 4;
/// Tokens of a workgroup then.
const WORKGROUP_TOKENS: usize = 8 * TILE_TOKENS;
/// Rows that lie packed together.
const GROUP: usize = 16;
/// Bytes of a vector of codes: sixteen rows by four columns.
const VECTOR: usize = 64;
/// Bytes of a half for each row.
const HALVES: usize = 32;

/// A matrix on a GPU.
#[derive(Debug)]
pub struct GpuMatrix {
    weight_type: WeightType,
    rows: usize,
    columns: usize,
    group_bytes: usize,
    scale: f32,
    /// Parts of whole groups of rows, each no larger than what an operator can see.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    bound: BindGroup,
    first_row: usize,
    rows: usize,
}

/// What a product's elements are multiplied with and what is added to them: where these lie among the constants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue {
    /// A factor for each row.
    pub factors: Option<usize>,
    /// A bias for each row.
    pub bias: Option<usize>,
}

impl GpuMatrix {
    /// Uploads a matrix.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn upload(gpu: &Gpu, matrix: &Matrix) -> Result<Self, GpuError> {
        let (rows, group_bytes) = (matrix.rows(), matrix.group_bytes());
        let at_once = (gpu.largest_binding() as usize / group_bytes.max(1)).max(1);
        let mut parts = Vec::new();
        for (index, packed) in matrix.packed().chunks((at_once * group_bytes).max(1)).enumerate() {
            let buffer = gpu.buffer("a weight matrix", packed.len() as u64)?;
            gpu.queue.write_buffer(&buffer, 0, packed);
            // What was written waits in memory of the driver until it is given to the device.
            gpu.queue.submit([]);
            let first_row = index * at_once * GROUP;
            let rows = (packed.len() / group_bytes * GROUP).min(rows - first_row);
            parts.push(Part { bound: gpu.bind_operand(Access::Read, &buffer), first_row, rows });
        }
        Ok(Self {
            weight_type: matrix.weight_type(),
            rows,
            columns: matrix.columns(),
            group_bytes,
            scale: matrix.scale(),
            parts,
        })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Multiplies the rows of `input` with the matrix, and each element with its factor, adds its bias, and writes to `out`, whose rows
    /// may be longer.
    ///
    /// # Panics
    /// If sizes do not agree, or the rows are not quantized as the weights need them.
    pub fn multiply(&self, gpu: &Gpu, pass: &mut Pass, input: &Input, epilogue: Epilogue, out: Rows) {
        let Rows { at: values, width, count: tokens } = input.values;
        assert_eq!((width, tokens), (self.columns, out.count), "inputs of the matrix");
        assert!(out.width >= self.rows, "room for the outputs of the matrix");
        let form = self.weight_type.packed_form();
        let codes = match form {
            PackedForm::Floats => None,
            PackedForm::Blocks { .. } => Some(input.blocks.expect("rows quantized in blocks")),
            PackedForm::SuperBlocks { .. } => {
                Some(input.super_blocks.expect("rows quantized in super-blocks"))
            }
        };
        let codes = codes.unwrap_or_default();
        let is_few = tokens <= FEW_TOKENS;
        let (kernel, at_once, tile) = if is_few {
            let at_once = tokens.next_power_of_two();
            (include_str!("shaders/multiply_few.wgsl"), at_once, at_once)
        } else {
            (include_str!("shaders/multiply_many.wgsl"), TILE_TOKENS, WORKGROUP_TOKENS)
        };
        let key = format!("multiply {} {at_once} {is_few}", self.weight_type);
        let pipeline = gpu.pipeline(&key, Access::Read, || source(self.weight_type, form, at_once, kernel));
        for part in &self.parts {
            let place = |constants: Option<usize>| constants.map_or(0, |at| at + part.first_row + 1);
            let parameters = [
                part.rows,
                self.columns,
                tokens,
                self.columns.div_ceil(form.unit_columns()),
                self.group_bytes / 4,
                values,
                codes.quads,
                codes.sums,
                codes.scales,
                out.at + part.first_row,
                out.width,
                self.scale.to_bits() as usize,
                place(epilogue.factors),
                place(epilogue.bias),
            ];
            let groups = [part.rows.div_ceil(GROUP), tokens.div_ceil(tile), 1];
            pass.run(pipeline.clone(), Some(&part.bound), &parameters.map(|value| value as u32), groups);
        }
    }
}

/// The shader of a product with weights of a type, for `at_once` tokens at once.
fn source(weight_type: WeightType, form: PackedForm, at_once: usize, kernel: &str) -> String {
    let constants = format!("const T: u32 = {at_once}u;\n");
    let parameters = include_str!("shaders/multiply.wgsl");
    let terms = match form {
        PackedForm::Floats => {
            let bytes = weight_type.block_bytes();
            format!(
                "const WEIGHT_BITS: u32 = {}u;\nconst IS_BRAIN: bool = {};\nconst UNIT_WORDS: u32 = {}u;\n{}",
                8 * bytes,
                weight_type == WeightType::Bf16,
                32 * GROUP * bytes / 4,
                include_str!("shaders/terms_of_floats.wgsl"),
            )
        }
        PackedForm::Blocks { codes, scales, minimum, powers_of_two } => {
            let head = HALVES * (scales + usize::from(minimum));
            format!(
                "{}const SCALES: u32 = {scales}u;\nconst HAS_MINIMUM: bool = {minimum};\nconst POWERS_OF_TWO: bool = {powers_of_two};\n\
                 const HEAD_WORDS: u32 = {}u;\nconst UNIT_WORDS: u32 = {}u;\n{}{}",
                code_constants(codes),
                head / 4,
                (head + code_bytes(codes)) / 4,
                include_str!("shaders/codes.wgsl"),
                include_str!("shaders/terms_of_blocks.wgsl"),
            )
        }
        PackedForm::SuperBlocks { codes, scales, minimum } => {
            let halves = HALVES * (1 + usize::from(minimum));
            let vectors = 2 * scales * VECTOR;
            let head = halves + vectors * (1 + usize::from(minimum));
            format!(
                "{}const SCALES: u32 = {scales}u;\nconst HAS_MINIMUM: bool = {minimum};\nconst UNIT: f32 = {:?}f;\n\
                 const SCALE_WORD: u32 = {}u;\nconst MINIMUM_WORD: u32 = {}u;\nconst HEAD_WORDS: u32 = {}u;\n\
                 const CODE_WORDS: u32 = {}u;\nconst UNIT_WORDS: u32 = {}u;\n{}{}",
                code_constants(codes),
                codes.unit,
                halves / 4,
                (halves + vectors) / 4,
                head / 4,
                code_bytes(codes) / 4,
                (head + 8 * code_bytes(codes)) / 4,
                include_str!("shaders/codes.wgsl"),
                include_str!("shaders/terms_of_super_blocks.wgsl"),
            )
        }
    };
    [&constants, parameters, &terms, kernel].concat()
}

/// Bytes of the codes of sixteen rows by 32 columns.
fn code_bytes(codes: CodeForm) -> usize {
    (codes.bits + codes.plane_bits) as usize * VECTOR
}

fn code_constants(codes: CodeForm) -> String {
    let CodeForm { bits, plane_bits, offset, numbers, .. } = codes;
    let table = numbers.copied().unwrap_or_default().map(|number| number as u8);
    let words: Vec<_> =
        table.as_chunks().0.iter().map(|bytes| format!("{}u", u32::from_le_bytes(*bytes))).collect();
    format!(
        "const BITS: u32 = {bits}u;\nconst PLANE_BITS: u32 = {plane_bits}u;\nconst OFFSET: i32 = {};\n\
         const HAS_NUMBERS: bool = {};\nconst NUMBERS: vec4<u32> = vec4<u32>({});\n",
        if numbers.is_some() { 0 } else { offset },
        numbers.is_some(),
        words.join(", "),
    )
}
