// Normalisation of parts of rows: by the root of the mean square, or, if IS_LAYER, by the standard deviation after the mean is taken off.
// Sums are kept in eight lanes by column modulo eight.

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

const THREADS: u32 = 64u;
var<workgroup> lanes: array<f32, 8>;

fn lane_sum() -> f32 {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/// Has eight threads add up the squares of a part, or its values.
fn add_up(thread: u32, at: u32, squares: bool) {
    workgroupBarrier();
    storageBarrier();
    if thread < 8u {
        var sum = 0.0f;
        for (var column = thread; column < p.width; column += 8u) {
            let x = floats[at + column];
            if squares {
                sum = multiply_add(x, x, sum);
            } else {
                sum = sum + x;
            }
        }
        lanes[thread] = sum;
    }
    workgroupBarrier();
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let start = p.source + group.y * p.source_stride + group.x * p.width;
    let result = p.result + group.y * p.result_stride + group.x * p.width;
    let count = f32(p.width);
    var source = start;
    if IS_LAYER {
        add_up(thread, start, false);
        let mean = divide(lane_sum(), count);
        for (var column = thread; column < p.width; column += THREADS) {
            floats[result + column] = floats[start + column] - mean;
        }
        source = result;
    }
    add_up(thread, source, true);
    let scale = divide(1.0f, square_root(divide(lane_sum(), count) + p.epsilon));
    let weight = p.weight + group.x * p.weight_stride;
    for (var column = thread; column < p.width; column += THREADS) {
        var value = (floats[source + column] * scale) * constants[weight + column];
        if p.bias > 0u {
            value = value + constants[p.bias - 1u + column];
        }
        floats[result + column] = value;
    }
}
