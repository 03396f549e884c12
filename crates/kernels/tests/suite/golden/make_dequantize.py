#!/usr/bin/env python3
"""Makes dequantize.json: random blocks of every quantized type, and their values by the `gguf` Python package.

Usage: python3 -m pip install gguf numpy; python3 make_dequantize.py > dequantize.json
"""
import json
import sys

import gguf
import numpy as np
from gguf.quants import dequantize

# Offsets of the halves in a block: scales must be finite.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q5_0": [0], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "MXFP4": [], "Q3_K": [108], "IQ4_XS": [0], "Q2_K": [80, 82], "IQ3_XXS": [0], "IQ3_S": [0], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ1_S": [0], "IQ1_M": [], "TQ1_0": [52], "TQ2_0": [64]}

random = np.random.default_rng(20231212)
result = {}
for name, offsets in HALVES.items():
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
    values = dequantize(blocks, kind).astype(np.float32).reshape(-1)
    assert values.size == 2 * block_weights
    result[name] = {"bytes": blocks.reshape(-1).tolist(), "value_bits": values.view(np.uint32).tolist()}
json.dump(result, sys.stdout)
print()
