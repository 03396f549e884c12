// Adds rows, each with a factor, to chosen rows of others.

/// Floats: `source` and `result`, `[row][width]`; `factors`, `[row]` of the source. `rows`: words, the result's row for each of the source.
struct Parameters { source: u32, result: u32, width: u32, rows: u32, factors: u32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.width {
        let at = p.result + words[p.rows + id.y] * p.width + id.x;
        floats[at] = multiply_add(floats[p.factors + id.y], floats[p.source + id.y * p.width + id.x], floats[at]);
    }
}
