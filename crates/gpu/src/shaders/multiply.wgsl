// Products of packed weights with rows. What stands before this file says how the weights lie: constants, and functions that give
// the terms of a unit of columns and add them to an element.

struct Parameters {
    rows: u32,
    columns: u32,
    tokens: u32,
    units: u32,
    group_words: u32,
    // Where the rows lie: their values, their codes, the sums of each sixteen codes, the scales of units.
    values: u32,
    codes: u32,
    sums: u32,
    scales: u32,
    // Where the product goes: of each token, `stride` floats, those of these rows from `out` on.
    out: u32,
    stride: u32,
    scale: f32,
    // Where factors and biases of these rows lie among the constants, plus 1; 0 if there are none.
    factors: u32,
    bias: u32,
}
var<immediate> p: Parameters;

@group(1) @binding(0) var<storage, read> operand: array<u32>;

/// The token of a tile that begins with `first`. What lies beyond the last is the last once more.
fn token_of(first: u32, t: u32) -> u32 {
    return min(first + t, p.tokens - 1u);
}

fn store(row: u32, token: u32, element: f32) {
    if row >= p.rows || token >= p.tokens {
        return;
    }
    var value = element * p.scale;
    if p.factors > 0u {
        value = value * constants[p.factors - 1u + row];
    }
    if p.bias > 0u {
        value = value + constants[p.bias - 1u + row];
    }
    floats[p.out + token * p.stride + row] = value;
}
