#!/usr/bin/env python3
"""Makes grids.json: the points of the grids by the `gguf` Python package, each as its digits, the smallest number 0.

Usage: python3 -m pip install gguf numpy; python3 make_grids.py > grids.json
"""
import json
import sys

import gguf.quants

grids = {}
for name in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]:
    kind = getattr(gguf.quants, name)
    kind.init_grid()
    points = kind.grid.reshape(kind.grid_shape)
    grids[name] = ["".join(str(kind.grid_map.index(int(number))) for number in point) for point in points]
json.dump(grids, sys.stdout)
print()
