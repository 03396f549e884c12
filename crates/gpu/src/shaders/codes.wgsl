// Integer codes of sixteen rows by 32 columns, in vectors of four columns: see `quantized/codes.rs` of the kernels.

alias Terms = vec2<i32>;

fn in_each(byte: u32) -> u32 {
    return byte * 0x01010101u;
}

/// The number that the lowest four bits of `code` stand for, as a byte.
fn number(code: u32) -> u32 {
    let low = select(NUMBERS.x, NUMBERS.y, (code & 4u) != 0u);
    let high = select(NUMBERS.z, NUMBERS.w, (code & 4u) != 0u);
    return (select(low, high, (code & 8u) != 0u) >> (8u * (code & 3u))) & 0xffu;
}

/// Vector `vector` of row `row`: four bytes, signed or below 128.
fn weights(at: u32, vector: u32, row: u32) -> u32 {
    if BITS == 8u {
        return operand[at + 16u * vector + row] ^ 0x80808080u;
    }
    let low = operand[at + 16u * (vector % BITS) + row] >> (BITS * (vector / BITS));
    var code = low & in_each((1u << BITS) - 1u);
    if PLANE_BITS > 0u {
        let bit = vector * PLANE_BITS;
        let plane = operand[at + 16u * (BITS + bit / 8u) + row] >> (bit % 8u);
        code |= (plane & in_each((1u << PLANE_BITS) - 1u)) << BITS;
    }
    if HAS_NUMBERS {
        return number(code) | number(code >> 8u) << 8u | number(code >> 16u) << 16u | number(code >> 24u) << 24u;
    }
    return code;
}

/// Four codes of a token.
fn inputs(token: u32, vector: u32) -> u32 {
    return words[p.codes + token * (p.columns / 4u) + vector];
}

/// The sum of sixteen codes of a token.
fn sum_of_half(token: u32, half: u32) -> i32 {
    return bitcast<i32>(words[p.sums + token * (p.columns / 16u) + half]);
}
