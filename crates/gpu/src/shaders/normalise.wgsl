// Normalisation of parts of rows: by the root of the mean square, or, if IS_LAYER, by the standard deviation after the mean is taken off.

struct Parameters {
    source: u32,
    source_stride: u32,
    result: u32,
    result_stride: u32,
    width: u32,
    // How far the weights of the next part of a row lie; 0 if all parts have the same.
    weight_stride: u32,
    // Among the constants, the bias plus 1; 0 if there is none.
    weight: u32,
    bias: u32,
    epsilon: f32,
}
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let start = p.source + group.y * p.source_stride + group.x * p.width;
    let result = p.result + group.y * p.result_stride + group.x * p.width;
    let count = f32(p.width);
    var mean = 0.0f;
    if IS_LAYER {
        mean = divide(lane_sum(thread, start, p.width, 0.0f, false), count);
    }
    let squares = lane_sum(thread, start, p.width, mean, true);
    let scale = divide(1.0f, square_root(divide(squares, count) + p.epsilon));
    let weight = p.weight + group.x * p.weight_stride;
    for (var column = thread; column < p.width; column += THREADS) {
        var value = ((floats[start + column] - mean) * scale) * constants[weight + column];
        if p.bias > 0u {
            value = value + constants[p.bias - 1u + column];
        }
        floats[result + column] = value;
    }
}
