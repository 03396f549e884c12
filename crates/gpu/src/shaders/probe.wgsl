// What arithmetic gives, for the operands in front of each result: eight results of three operands.

struct Parameters { count: u32, operands: u32, results: u32 }
var<immediate> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.count {
        return;
    }
    let at = p.operands + 3u * id.x;
    let a = floats[at];
    let b = floats[at + 1u];
    let c = floats[at + 2u];
    let out = p.results + 12u * id.x;
    floats[out] = a + b;
    floats[out + 1u] = a * b;
    floats[out + 2u] = multiply_add(a, b, c);
    floats[out + 3u] = divide(a, b);
    floats[out + 4u] = square_root(abs(a));
    floats[out + 5u] = exponential(a);
    let integer = bitcast<i32>(bitcast<u32>(a) * 2654435761u) >> (bitcast<u32>(b) & 15u);
    floats[out + 6u] = f32(integer);
    floats[out + 7u] = f32(dot4I8Packed(bitcast<u32>(a), bitcast<u32>(b)));
    floats[out + 8u] = half_of(bitcast<u32>(a), 0u);
    floats[out + 9u] = f32(to_half(a));
    floats[out + 10u] = a * b + c;
    floats[out + 11u] = a - b;
}
