"""The generation loop: draft, one forward pass, follow the model's choices, keep that path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.utils import GenerateDecoderOnlyOutput

from lookahead_drafts._native import DraftTree, DraftTrie
from lookahead_drafts.transformers.cost_curve import CostCurve, measured_cost
from lookahead_drafts.transformers.forward import Forward, Row, drop_done, keep_paths, takes_trees
from lookahead_drafts.transformers.limits import longest_text, refuse


def lookahead(
    trie: DraftTrie,
    *,
    draft_length: int = 32,
    min_probability: float = 0.01,
    namespace: str = "default",
    share: str = "readwrite",
    cost_curve: CostCurve | None | str = "measure",
    streamer: Any = None,
    observer: Callable[[DraftStep], None] | None = None,
) -> Lookahead:
    """A generation loop for `model.generate(..., custom_generate=…)` that drafts from `trie`.

    A tree has at most `draft_length` nodes besides its root, of an estimated probability of at least `min_probability`. With
    cost_curve="measure" the cost of a pass is measured at a model's first answer (a second or so) and each tree is as large
    as pays; a `CostCurve` of your own does the same; with None trees are as large as `draft_length` allows. `namespace` and
    `share` are those of `DraftTrie.start`. `observer` is called with each step of each row.
    """
    if isinstance(cost_curve, str) and cost_curve != "measure":
        raise ValueError(f"cost_curve is '{cost_curve}'; 'measure', a CostCurve or None is needed")
    if draft_length < 0:
        raise ValueError(f"draft_length is {draft_length}; at least 0 is needed")
    return Lookahead(trie, draft_length, min_probability, namespace, share, cost_curve, streamer, observer)


class Lookahead:
    """A generation loop; made by `lookahead`. `stats` sums over its calls."""

    def __init__(
        self,
        trie: DraftTrie,
        draft_length: int,
        min_probability: float,
        namespace: str,
        share: Any,
        cost_curve: CostCurve | None | str,
        streamer: Any,
        observer: Callable[[DraftStep], None] | None,
    ) -> None:
        self.stats = LookaheadStats()
        self._trie = trie
        self._draft_length = draft_length
        self._min_probability = min_probability
        self._namespace = namespace
        self._share = share
        self._cost_curve = cost_curve
        self._streamer = streamer
        self._observer = observer

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Any,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """Called by `generate`, which has prepared all of it.

        Raises `UnsupportedError` for a model or an option that it cannot serve.
        """
        streamer = streamer or _streamer_of_generate()
        if self._streamer is not None and streamer is None:
            streamer = self._streamer
            streamer.put(input_ids.cpu())
        refuse(model, generation_config, model_kwargs, input_ids, synced_gpus, streamer)
        with_trees = takes_trees(model)
        curve = self._cost_curve
        if isinstance(curve, str):
            curve = measured_cost(model, with_trees)
        mask = model_kwargs.get("attention_mask")
        batches = [input_ids] if with_trees or len(input_ids) == 1 else list(input_ids.split(1))
        run = _Run(self, model, logits_processor, stopping_criteria, generation_config, streamer, with_trees, curve)
        rows: list[Row] = []
        try:
            cache = None
            for batch in batches:
                first = len(rows)
                cache = model_kwargs.get("past_key_values")
                own_mask = None if mask is None else mask[first : first + len(batch)]
                stripped = 0
                if not with_trees and own_mask is not None:
                    stripped = int(own_mask[0].argmax())
                    batch, own_mask = batch[:, stripped:], None
                begun = self._begin(batch, own_mask, first, stripped, generation_config)
                rows += begun
                cache = run.decode(begun, batch, own_mask, cache if len(batches) == 1 else None)
        except BaseException:
            for row in rows:
                row.request.cancel()
            raise
        for row in rows:
            row.request.finish()
        if streamer is not None:
            streamer.end()
        return _result(rows, input_ids, generation_config, cache if len(rows) == 1 else None)

    def _begin(self, input_ids: Any, mask: Any, first: int, stripped: int, config: Any) -> list[Row]:
        longest = max(int(config.max_length), input_ids.shape[1]) + 1
        rows = []
        for index, ids in enumerate(input_ids):
            pad = 0 if mask is None else int(mask[index].argmax())
            room = torch.empty((1, longest), dtype=torch.long, device=input_ids.device)
            room[0, : len(ids)] = ids
            prompt = ids[pad:].cpu().numpy()
            request = self._trie.start(prompt, namespace=self._namespace, share=self._share)
            rows.append(Row(first + index, request, pad, room, len(ids), stripped))
        return rows


@dataclass
class LookaheadStats:
    """What came of the drafts, summed over all calls."""

    passes: int = 0
    """Forward passes that verified drafts, counted for each row; a prompt's own is not among them."""
    tokens: int = 0
    """Tokens that they produced."""
    drafted: int = 0
    accepted: int = 0

    @property
    def edl(self) -> float:
        """Tokens per forward pass; plain decoding has 1."""
        return self.tokens / self.passes if self.passes else 1.0


@dataclass(frozen=True)
class DraftStep:
    """One row of one step, for who watches."""

    row: int
    tree: DraftTree
    size: int
    """Nodes of the tree that were verified."""
    accepted: tuple[int, ...]
    """Nodes on the path that the model followed, the root not among them."""
    tokens: tuple[int, ...]
    """Tokens that the row gained."""


class _Run:
    """One call of `generate`."""

    def __init__(
        self,
        owner: Lookahead,
        model: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        config: Any,
        streamer: Any,
        with_trees: bool,
        curve: CostCurve | None,
    ) -> None:
        self.owner = owner
        self.forward = Forward(model, with_trees)
        self.with_trees = with_trees
        self.curve = curve
        self.processors = logits_processor
        self.criteria = stopping_criteria
        self.config = config
        self.streamer = streamer
        self.is_plain_greedy = not config.do_sample and not logits_processor
        self.keeps_scores = bool(config.return_dict_in_generate and config.output_scores)
        self.keeps_logits = bool(config.return_dict_in_generate and config.output_logits)
        self.noise: list[Any] = []
        self.rows = 0
        self.prompt_length = 0
        self.longest = longest_text(model, config)

    def decode(self, rows: list[Row], input_ids: Any, mask: Any, cache: Any) -> Any:
        """Until all rows are done; returns the cache."""
        self.rows = len(rows)
        self.noise = []
        self.prompt_length = input_ids.shape[1]
        logits, cache = self.forward.prefill(input_ids, mask, cache)
        for index, row in enumerate(rows):
            row.cached = row.length
            greedy = logits[index].argmax(-1).tolist() if self.is_plain_greedy else None
            gained = self.walk(row, logits[index], greedy, {})[1]
            row.request.append(gained)
        active = drop_done(rows, cache)
        while active:
            trees = self.draft(active)
            size = max(trees[1])
            logits = self.forward.verify(active, trees, size, cache)
            greedy_rows = logits.argmax(-1).tolist() if self.is_plain_greedy else [None] * len(active)
            paths = []
            for row, tree, own, scores, greedy in zip(active, *trees, logits, greedy_rows):
                path, gained = self.walk(row, scores, greedy, _children(tree, own))
                paths.append(path)
                row.request.append(gained)
                self.count(row, tree, own, path, gained)
            keep_paths(active, paths, size, cache)
            active = drop_done(active, cache)
        return cache

    def draft(self, active: list[Row]) -> tuple[list[DraftTree], list[int]]:
        """A tree for each row, and how many of its nodes to verify."""
        owner = self.owner
        # A step gains one token more than its path is deep.
        depth = max(min(self.longest - row.length for row in active) - 1, 0)
        batch = owner._trie.draft_trees(
            [row.request for row in active],
            owner._draft_length if depth else 0,
            depth=min(depth, owner._draft_length),
            min_probability=owner._min_probability,
            shape="hierarchical" if self.with_trees else "single",
        )
        trees = [batch[index] for index in range(len(active))]
        size = max(len(tree) for tree in trees)
        if self.curve is not None:
            context = sum(row.length for row in active)
            size = min(size, self.curve.best_size([tree.probabilities for tree in trees], context))
        return trees, [min(len(tree), size) for tree in trees]

    def walk(
        self, row: Row, logits: Any, greedy: list[int] | None, children: dict[int, dict[int, int]]
    ) -> tuple[list[int], list[int]]:
        """Follows the model's choices from the root as far as the draft has them: nodes passed, and tokens gained."""
        node = 0
        path: list[int] = []
        gained: list[int] = []
        while True:
            token = greedy[node] if greedy is not None else self.choose(row, logits[node])
            if greedy is not None and (self.keeps_scores or self.keeps_logits):
                self.keep(row, logits[node].float()[None], logits[node].float()[None])
            gained.append(token)
            row.ids[0, row.length] = token
            row.length += 1
            row.is_done = bool(self.criteria(row.text, None).item())
            if self.streamer is not None:
                self.streamer.put(torch.tensor([token]))
            child = children.get(node, {}).get(token)
            if row.is_done or child is None:
                return path, gained
            path.append(child)
            node = child

    def choose(self, row: Row, logits: Any) -> int:
        """The token that plain `generate` would choose behind the row's text."""
        scores = logits[None].to(copy=True, dtype=torch.float32, device=row.ids.device)
        raw = scores.clone() if self.keeps_logits else None
        scores = self.processors(row.text, scores)
        self.keep(row, scores, raw)
        if not self.config.do_sample:
            return int(scores.argmax(-1).item())
        probabilities = torch.nn.functional.softmax(scores, dim=-1)
        # What torch.multinomial does for one sample, with the noise of this step of the batch and of this row.
        noise = self.noise_of(row.length - self.prompt_length, probabilities)
        return int((probabilities[0] / noise[row.index % self.rows]).argmax().item())

    def noise_of(self, step: int, probabilities: Any) -> Any:
        """The random numbers of all rows at a step: drawn in the order of steps, as plain `generate` draws them."""
        while len(self.noise) <= step:
            shape = (self.rows, probabilities.shape[-1])
            noise = torch.empty(shape, dtype=probabilities.dtype, device=probabilities.device)
            self.noise.append(noise.exponential_(1))
            if self.rows == 1 and len(self.noise) > 1:
                self.noise[-2] = None  # no other row needs it
        return self.noise[step]

    def keep(self, row: Row, scores: Any, raw: Any) -> None:
        if self.keeps_scores:
            row.scores.append(scores)
        if self.keeps_logits:
            row.logits.append(raw)

    def count(self, row: Row, tree: DraftTree, size: int, path: list[int], gained: list[int]) -> None:
        stats = self.owner.stats
        stats.passes += 1
        stats.tokens += len(gained)
        stats.drafted += size - 1
        stats.accepted += len(path)
        if self.owner._observer is not None:
            self.owner._observer(DraftStep(row.index, tree, size, tuple(path), tuple(gained)))


def _children(tree: DraftTree, size: int) -> dict[int, dict[int, int]]:
    """The children of each node, by their tokens."""
    children: dict[int, dict[int, int]] = {}
    tokens, parents = tree.tokens.tolist(), tree.parents.tolist()
    for node in range(1, size):
        children.setdefault(parents[node], {}).setdefault(tokens[node], node)
    return children


def _streamer_of_generate() -> Any:
    """The `streamer` that `generate` was given: it puts the prompt into it, and hands it on to its own loops alone."""
    frame = sys._getframe(1)
    for _ in range(4):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code.co_name == "generate" and "generation_mode" in frame.f_locals:
            return frame.f_locals.get("streamer")
    return None


def _result(rows: list[Row], input_ids: Any, config: Any, cache: Any) -> Any:
    """What plain `generate` returns: shorter rows are filled up with the padding token."""
    prompt = input_ids.shape[1]
    answers = [row.ids[0, row.length - _gained(row, input_ids) : row.length] for row in rows]
    longest = max(len(answer) for answer in answers)
    pad = config._pad_token_tensor
    fill = int(pad) if pad is not None else 0
    sequences = torch.full((len(rows), prompt + longest), fill, dtype=torch.long, device=input_ids.device)
    sequences[:, :prompt] = input_ids
    for index, answer in enumerate(answers):
        sequences[index, prompt : prompt + len(answer)] = answer
    if not config.return_dict_in_generate:
        return sequences

    def steps(name: str) -> tuple[Any, ...] | None:
        kept = [getattr(row, name) for row in rows]
        if not kept[0]:
            return None
        nothing = torch.zeros_like(kept[0][0])
        return tuple(torch.cat([own[step] if step < len(own) else nothing for own in kept]) for step in range(longest))

    whole: Any = sequences
    return GenerateDecoderOnlyOutput(sequences=whole, scores=steps("scores"), logits=steps("logits"), past_key_values=cache)


def _gained(row: Row, input_ids: Any) -> int:
    # A row that was decoded alone has lost its padding.
    return int(row.length - (input_ids.shape[1] - row.stripped))
