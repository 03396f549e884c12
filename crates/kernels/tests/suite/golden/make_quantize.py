#!/usr/bin/env python3
"""Makes quantize.json: random weights, and their blocks by the `gguf` Python package, which rounds as llama.cpp does.

Usage: python3 -m pip install gguf numpy; python3 make_quantize.py > quantize.json
"""
import json
import sys

import gguf
import numpy as np
from gguf.quants import quantize

random = np.random.default_rng(20240229)
values = (random.normal(size=8 * 32) * np.repeat([1, 0.01, 30, 1, 1, 1e-3, 1, 1], 32)).astype(np.float32)
values[96:128] = np.round(values[96:128] * 8) / 8  # ties, and several largest ones
values[6 * 32 : 7 * 32] = 0.0
result = {"value_bits": values.view(np.uint32).tolist()}
for name in ("Q8_0", "Q4_0"):
    blocks = quantize(values.reshape(1, -1), gguf.GGMLQuantizationType[name])
    result[name] = blocks.reshape(-1).tolist()
json.dump(result, sys.stdout)
print()
