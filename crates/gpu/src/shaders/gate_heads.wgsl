// Multiplies values by the sigmoids of gates: of each value, or of each head.

/// Floats: `values` `[node][width]`, `gates` `[node][gates_width]`, a gate for `width / gates_width` values.
struct Parameters { values: u32, gates: u32, width: u32, gates_width: u32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.width {
        let at = p.values + id.y * p.width + id.x;
        let gate = floats[p.gates + id.y * p.gates_width + id.x / (p.width / p.gates_width)];
        floats[at] = sigmoid(gate) * floats[at];
    }
}
