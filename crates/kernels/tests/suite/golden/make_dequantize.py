#!/usr/bin/env python3
"""Makes dequantize.json: random blocks of every quantized type, and their values by the `gguf` Python package; by the formats' definitions
for the types that it lacks.

Usage: python3 -m pip install gguf numpy; python3 make_dequantize.py > dequantize.json
"""
import json
import sys

import gguf
import numpy as np
from gguf.quants import dequantize

# Offsets of the halves in a block: scales must be finite.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q5_0": [0], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "MXFP4": [], "Q3_K": [108], "IQ4_XS": [0], "Q2_K": [80, 82], "IQ3_XXS": [0], "IQ3_S": [0], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ1_S": [0], "IQ1_M": [], "TQ1_0": [52], "TQ2_0": [64], "NVFP4": [], "Q1_0": [0], "Q2_0": [0]}

# Bits of a code, weights and bytes of a block of the types that the package lacks: a half, then codes from the lowest bits on.
LACKING = {"Q1_0": (1, 128, 18), "Q2_0": (2, 64, 18)}


def dequantize_lacking(name, blocks):
    """Q1_0: bits that mean -1 and 1. Q2_0: pairs of bits that mean -1 to 2."""
    bits, weights, _ = LACKING[name]
    scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    digits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").reshape(len(blocks), weights, bits)
    codes = (digits << np.arange(bits)).sum(axis=2)
    numbers = 2 * codes - 1 if bits == 1 else codes - 1
    return scales * numbers

random = np.random.default_rng(20231212)
result = {}
for name, offsets in HALVES.items():
    if name in LACKING:
        _, block_weights, block_bytes = LACKING[name]
    else:
        kind = gguf.GGMLQuantizationType[name]
        block_weights, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (2, block_bytes), dtype=np.uint8)
    for block in blocks:
        for offset in offsets:
            half = np.float16(random.uniform(-0.1, 0.1))
            block[offset : offset + 2] = np.frombuffer(half.tobytes(), np.uint8)
        if name == "IQ1_M":
            # A nibble of the half ends each of four words.
            half = int(np.float16(random.uniform(-0.1, 0.1)).view(np.uint16))
            for word in range(4):
                block[49 + 2 * word] = block[49 + 2 * word] & 15 | (half >> 4 * word & 15) << 4
    values = dequantize_lacking(name, blocks) if name in LACKING else dequantize(blocks, kind)
    values = values.astype(np.float32).reshape(-1)
    assert values.size == 2 * block_weights
    result[name] = {"bytes": blocks.reshape(-1).tolist(), "value_bits": values.view(np.uint32).tolist()}
json.dump(result, sys.stdout)
print()
