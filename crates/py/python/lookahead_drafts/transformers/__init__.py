"""Drafts in Hugging Face Transformers, as a generation loop of its own.

    trie = DraftTrie()
    model.generate(**inputs, custom_generate=lookahead(trie), max_new_tokens=200)

Each step drafts a tree for every row of the batch, runs the model once over all nodes (a 4D mask lets a node see the context and
its own ancestors), chooses at each node as plain `generate` would, follows the children that carry the choices, and keeps the
cache rows of that path. The model's logits processors, stopping criteria and `GenerationConfig` hold as ever; sampling draws the
same random numbers as plain `generate` does with the same seed.

Where a tree's mask cannot be known to be the model's own, and where options look at the whole batch, drafts are chains that all
rows verify in step. A model whose passes over several tokens are not those over one after the other is generated plainly.
"""

from lookahead_drafts.transformers.cost_curve import CostCurve, measure_cost
from lookahead_drafts.transformers.limits import UnsupportedError
from lookahead_drafts.transformers.loop import DraftStep, Lookahead, LookaheadStats, lookahead

__all__ = ["CostCurve", "DraftStep", "Lookahead", "LookaheadStats", "UnsupportedError", "lookahead", "measure_cost"]
