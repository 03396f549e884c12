// Normalisation of parts of rows, before it an addition to them, and behind it the quantization of what comes of it. IS_CHANGED says
// whether rows change before: ADDED others are added, and the sum is scaled. IS_NORMED says whether there is a norm: by the root of the
// mean square, or, if IS_LAYER, by the standard deviation after the mean is taken off.

struct Parameters {
    source: u32,
    result: u32,
    // How far the next row lies, of all rows that there are.
    stride: u32,
    // Floats of a part.
    width: u32,
    // How far the weights of the next part of a row lie; 0 if all parts have the same.
    weight_stride: u32,
    // Among the constants, the bias plus 1; 0 if there is none.
    weight: u32,
    bias: u32,
    epsilon: f32,
    // The rows that are added, with a factor, and what the sum is multiplied with.
    added: u32,
    added_too: u32,
    factor: f32,
    scale: f32,
    blocks: Codes,
    super_blocks: Codes,
}
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let part = group.y * p.stride + group.x * p.width;
    let start = p.source + part;
    if IS_CHANGED {
        for (var column = thread; column < p.width; column += THREADS) {
            var sum = floats[start + column];
            if ADDED > 0u {
                sum = multiply_add(p.factor, floats[p.added + part + column], sum);
            }
            if ADDED > 1u {
                sum = multiply_add(p.factor, floats[p.added_too + part + column], sum);
            }
            floats[start + column] = sum * p.scale;
        }
        storageBarrier();
    }
    var mean = 0.0f;
    var scale = 1.0f;
    if IS_NORMED {
        let count = f32(p.width);
        if IS_LAYER {
            mean = divide(lane_sum(thread, start, p.width, 0.0f, false), count);
        }
        let squares = lane_sum(thread, start, p.width, mean, true);
        scale = divide(1.0f, square_root(divide(squares, count) + p.epsilon));
    }
    let weight = p.weight + group.x * p.weight_stride;
    for (var first = 0u; first < p.width; first += 4u * THREADS) {
        var x = vec4<f32>();
        for (var i = 0u; i < 4u; i++) {
            let column = first + 4u * thread + i;
            if column < p.width {
                x[i] = floats[start + column];
                if IS_NORMED {
                    x[i] = ((x[i] - mean) * scale) * constants[weight + column];
                    if p.bias > 0u {
                        x[i] = x[i] + constants[p.bias - 1u + column];
                    }
                    floats[p.result + part + column] = x[i];
                }
            }
        }
        let quad = (part + first) / 4u + thread;
        quantize(thread, quad, first + 4u * thread < p.width, x, p.blocks, p.super_blocks);
    }
}
