// Adds shares of sources to streams: a value of a stream a thread.

/// Floats: `streams` and `results` `[stream][node][width]`, `sources` `[source][node][width]`, `modalities` `[node][modality]`. Constants:
/// `coefficients` `[stream][source][modality]`.
struct Parameters {
    streams: u32,
    results: u32,
    sources: u32,
    source_count: u32,
    modalities: u32,
    modality_count: u32,
    coefficients: u32,
    nodes: u32,
    width: u32,
    // Added to each share.
    least: f32,
}
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.width {
        return;
    }
    let at = (id.z * p.nodes + id.y) * p.width + id.x;
    var value = floats[p.streams + at];
    for (var source = 0u; source < p.source_count; source++) {
        let coefficients = p.coefficients + (id.z * p.source_count + source) * p.modality_count;
        var share = 0.0f;
        for (var i = 0u; i < p.modality_count; i++) {
            share = share + constants[coefficients + i] * floats[p.modalities + id.y * p.modality_count + i];
        }
        let other = floats[p.sources + (source * p.nodes + id.y) * p.width + id.x];
        value = multiply_add(p.least + share, other, value);
    }
    floats[p.results + at] = value;
}
