// Multiplies each column by a factor of its own.

/// `rows`: floats `[row][width]`; `factors`: constants `[column]`.
struct Parameters { rows: u32, factors: u32, width: u32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.width {
        let at = p.rows + id.y * p.width + id.x;
        floats[at] = floats[at] * constants[p.factors + id.x];
    }
}
