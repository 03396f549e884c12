// Operators on each value of rows alone, and the quantization of what they make of it.

struct Parameters {
    result: u32,
    source: u32,
    // Floats of a row of each.
    width: u32,
    source_stride: u32,
    // Values of the result that have the same value of the source.
    repeat: u32,
    // Where the rows of the source are said, in `words`, plus 1; 0 if they are those of the result.
    rows: u32,
    // A factor, or a limit.
    value: f32,
    // Of numbers that an activation has.
    positive: f32,
    negative: f32,
    limit: f32,
    blocks: Codes,
    super_blocks: Codes,
}
var<immediate> p: Parameters;

fn silu(x: f32) -> f32 {
    return divide(x, 1.0f + exponential(-x));
}

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
fn gelu_tanh(x: f32) -> f32 {
    let u = 0.7978846f * (x * multiply_add(0.044715f * x, x, 1.0f));
    return divide(x, 1.0f + exponential(-2.0f * u));
}

/// x times the normal distribution's P(X <= x)
fn gelu(x: f32) -> f32 {
    let z = abs(x) * 0.70710677f;
    let t = divide(1.0f, 0.5f * z + 1.0f);
    var q = 0.17087277f;
    q = multiply_add(q, t, -0.82215223f);
    q = multiply_add(q, t, 1.4885159f);
    q = multiply_add(q, t, -1.135204f);
    q = multiply_add(q, t, 0.27886807f);
    q = multiply_add(q, t, -0.18628806f);
    q = multiply_add(q, t, 0.09678418f);
    q = multiply_add(q, t, 0.37409196f);
    q = multiply_add(q, t, 1.0000237f);
    q = multiply_add(q, t, -1.2655122f);
    let tail = 0.5f * (t * exponential(multiply_add(-z, z, q)));
    return x * select(1.0f - tail, tail, x < 0.0f);
}

fn clamped_swish(x: f32) -> f32 {
    let low = select(x, 7.0f, x > 7.0f);
    return divide(low, 1.0f + exponential(-1.702f * low));
}

fn relu(x: f32) -> f32 {
    return select(0.0f, x, x > 0.0f);
}

fn squared_relu(x: f32) -> f32 {
    return select(0.0f, x * x, x > 0.0f);
}

fn xielu(x: f32) -> f32 {
    let less = exponential(select(p.limit, x, x < p.limit)) - 1.0f;
    return p.value * x + select(p.negative * (less - x), p.positive * (x * x), x > 0.0f);
}

fn soft_cap(x: f32) -> f32 {
    return p.value * hyperbolic_tangent(divide(x, p.value));
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let first = 256u * group.x + 4u * thread;
    var row = group.y;
    if p.rows > 0u {
        row = words[p.rows - 1u + row];
    }
    let result = p.result + group.y * p.width;
    let source = p.source + row * p.source_stride;
    var x = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let column = first + i;
        if column < p.width {
            x[i] = floats[result + column];
            if HAS_OPERATION {
                x[i] = operation(x[i], floats[source + column / p.repeat]);
                floats[result + column] = x[i];
            }
        }
    }
    quantize(thread, (group.y * p.width + first) / 4u, first < p.width, x, p.blocks, p.super_blocks);
}
