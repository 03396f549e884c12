// Copies a part of each head: a column a thread.

/// Floats: of node `n` and head `h`, `width` ones from `source + n * source_node + h * source_head` on, and so for the result.
struct Parameters {
    source: u32,
    source_node: u32,
    source_head: u32,
    result: u32,
    result_node: u32,
    result_head: u32,
    width: u32,
}
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.width {
        let source = p.source + id.y * p.source_node + id.z * p.source_head;
        let result = p.result + id.y * p.result_node + id.z * p.result_head;
        floats[result + id.x] = floats[source + id.x];
    }
}
