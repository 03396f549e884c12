// Makes rows of chosen rows of others, each perhaps with factors on its columns, then with one of its own.

/// Floats: `source` and `result`, `[row][width]`. `rows`: words, the source's row for each of the result. `column_factors`, constants, and
/// `row_factors`, floats: where they lie, plus 1; 0 if there are none.
struct Parameters { source: u32, result: u32, width: u32, rows: u32, column_factors: u32, row_factors: u32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.width {
        return;
    }
    var value = floats[p.source + words[p.rows + id.y] * p.width + id.x];
    if p.column_factors > 0u {
        value = value * constants[p.column_factors - 1u + id.x];
    }
    if p.row_factors > 0u {
        value = value * floats[p.row_factors - 1u + id.y];
    }
    floats[p.result + id.y * p.width + id.x] = value;
}
