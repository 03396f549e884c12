// Scales each row so that its mean square is that of another; its own counts as LEAST at least.

/// `rows` and `like`: floats `[row][width]`
struct Parameters { rows: u32, like: u32, width: u32 }
var<immediate> p: Parameters;

const LEAST = 1e-5f;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let at = p.rows + group.y * p.width;
    let count = f32(p.width);
    let own = divide(lane_sum(thread, at, p.width, 0.0f, true), count);
    let other = divide(lane_sum(thread, p.like + group.y * p.width, p.width, 0.0f, true), count);
    let factor = divide(square_root(other), square_root(select(LEAST, own, own > LEAST)));
    for (var column = thread; column < p.width; column += THREADS) {
        floats[at + column] = floats[at + column] * factor;
    }
}
