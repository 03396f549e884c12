"""The generation loop: draft, one forward pass, follow the model's choices, keep that path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.generation.utils import GenerateDecoderOnlyOutput

from lookahead_drafts._native import DraftTree, DraftTrie
from lookahead_drafts.transformers.chains import Chains
from lookahead_drafts.transformers.cost_curve import CostCurve, measured_cost
from lookahead_drafts.transformers.limits import Switches, positions_of, refuse
from lookahead_drafts.transformers.rows import Group, Row, StandIn
from lookahead_drafts.transformers.trees import Trees
from lookahead_drafts.transformers.ways import verifier


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

        A model whose drafts cannot be verified exactly is generated plainly, with a warning. Raises `UnsupportedError` for an
        option that it cannot serve.
        """
        streamer = streamer or _streamer_of_generate()
        if self._streamer is not None and streamer is None:
            streamer = self._streamer
            streamer.put(input_ids.cpu())
        refuse(model, generation_config, model_kwargs, input_ids, synced_gpus, streamer)
        passes = verifier(model, input_ids, generation_config, model_kwargs, logits_processor, stopping_criteria)
        if passes is None:
            return model._sample(
                input_ids,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
                generation_config=generation_config,
                streamer=streamer,
                **model_kwargs,
            )
        curve = self._cost_curve
        if isinstance(curve, str):
            curve = measured_cost(model, isinstance(passes, Trees))
        groups = self._begin(input_ids, model_kwargs.get("attention_mask"), generation_config, isinstance(passes, Chains))
        run = _Run(self, passes, logits_processor, stopping_criteria, generation_config, streamer, curve, groups)
        rows = [row for group in groups for row in group.rows]
        try:
            run.decode(input_ids)
        except BaseException:
            for row in rows:
                row.request.cancel()
            raise
        for row in rows:
            row.request.finish()
        if streamer is not None:
            streamer.end()
        return _result(groups, generation_config, passes.cache)

    def _begin(self, input_ids: Any, mask: Any, config: Any, in_step: bool) -> list[Group]:
        count, length = input_ids.shape
        ids = torch.empty((count, max(int(config.max_length), length) + 1), dtype=torch.long, device=input_ids.device)
        ids[:, :length] = input_ids
        rows = []
        for index in range(count):
            pad = 0 if mask is None else int(mask[index].argmax())
            prompt = input_ids[index, pad:].cpu().numpy()
            request = self._trie.start(prompt, namespace=self._namespace, share=self._share)
            rows.append(Row(index, request, pad, ids[index : index + 1], length, length))
        return [Group(rows, ids)] if in_step else [Group([row], row.ids) for row in rows]


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
        passes: Trees | Chains,
        logits_processor: Any,
        stopping_criteria: Any,
        config: Any,
        streamer: Any,
        curve: CostCurve | None,
        groups: list[Group],
    ) -> None:
        self.owner = owner
        self.passes = passes
        self.curve = curve
        self.processors = logits_processor
        self.criteria = stopping_criteria
        self.config = config
        self.streamer = streamer
        self.groups = groups
        self.is_plain_greedy = not config.do_sample and not logits_processor
        self.has_end = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
        self.keeps_scores = bool(config.return_dict_in_generate and config.output_scores)
        self.keeps_logits = bool(config.return_dict_in_generate and config.output_logits)
        self.noise: list[Any] = []
        self.prompt_length = groups[0].rows[0].length
        # Tokens in front that a cache has and the ids given do not; the mask has them.
        mask = passes.kwargs.get("attention_mask")
        whole = int(mask.shape[1]) if mask is not None else getattr(config, "_mask_length", self.prompt_length)
        self.unseen = whole - self.prompt_length
        self.longest = min(int(config.max_length), positions_of(passes.model) - self.unseen)
        self.switches = Switches(passes.model)

    def decode(self, input_ids: Any) -> None:
        """Until all rows are done."""
        logits = self.passes.prefill(input_ids)
        if self.curve is not None and self.passes.reads_again:
            # A rejected draft costs another pass, which gains one token.
            again = self.curve(2) - 1.0
            costs = [cost + again * (size > 1) for size, cost in zip(self.curve.sizes, self.curve.costs)]
            self.curve = CostCurve(self.curve.sizes, costs, self.curve.context)
        groups = self.groups
        for group, own in zip(groups, _split(logits, groups)):
            _, gained = self.walk(group, own, [{} for _ in group.rows])
            for row, tokens in zip(group.rows, gained):
                row.request.append(tokens)
        while groups := self.drop_done(groups):
            rows = [row for group in groups for row in group.rows]
            trees, sizes = self.draft(rows)
            logits = self.passes.verify(rows, trees, max(sizes))
            children = [_children(tree, size) for tree, size in zip(trees, sizes)]
            paths: list[list[int]] = []
            for group, own in zip(groups, _split(logits, groups)):
                first = len(paths)
                were_done = [row.is_done for row in group.rows]
                walked, gained = self.walk(group, own, children[first : first + len(group.rows)])
                paths += walked
                for index, row in enumerate(group.rows):
                    if not were_done[index]:
                        row.request.append(gained[index])
                        self.count(row, trees[first + index], sizes[first + index], walked[index], gained[index])
            self.passes.keep(rows, paths)
        self.passes.finish([row for group in self.groups for row in group.rows])

    def drop_done(self, groups: list[Group]) -> list[Group]:
        """The groups that go on; the cache is theirs alone, unless none does."""
        going = [group for group in groups if not group.is_done]
        if going and len(going) < len(groups):
            self.passes.drop_done([row for group in groups for row in group.rows])
        return going

    def draft(self, rows: list[Row]) -> tuple[list[DraftTree], list[int]]:
        """A tree for each row, and how many of its nodes to verify."""
        owner = self.owner
        length = max(row.length for row in rows)
        text = length + self.unseen
        room = self.switches.longest_draft([text, text - min(row.pad for row in rows)])
        # A step gains one token more than its path is deep.
        depth = max(min(self.longest - length - 1, room, owner._draft_length), 0) if self.passes.may_draft else 0
        going = [row for row in rows if not row.is_done]
        batch = owner._trie.draft_trees(
            [row.request for row in going],
            owner._draft_length if depth else 0,
            depth=depth,
            min_probability=owner._min_probability,
            shape=self.passes.shape,
        )
        trees = [batch[index] for index in range(len(going))]
        in_step = len(self.groups) == 1
        size = (min if in_step else max)(len(tree) for tree in trees)
        if self.curve is not None and size > 1:
            probabilities = [tree.probabilities for tree in trees]
            if in_step:  # all of them have to be right
                probabilities = [np.prod([each[:size] for each in probabilities], axis=0)] * len(rows)
            size = min(size, self.curve.best_size(probabilities, sum(row.length for row in rows)))
        if len(going) < len(rows):
            trees, size = self.with_done(rows, trees, size)
        return trees, [min(len(tree), size) for tree in trees]

    def with_done(self, rows: list[Row], trees: list[DraftTree], size: int) -> tuple[list[Any], int]:
        """Trees for rows that are done as well, which wait for others: nothing but padding comes there."""
        if not self.has_end:
            size = 1  # plain generation goes on behind their ends
        pad = int(self.config._pad_token_tensor) if self.has_end else 0
        drafted = iter(trees)
        every: list[Any] = []
        for row in rows:
            root = int(row.ids[0, row.length - 1])
            padding = StandIn([root, *[pad] * (size - 1)], [max(node - 1, 0) for node in range(size)])
            every.append(padding if row.is_done else next(drafted))
        return every, size

    def walk(
        self, group: Group, logits: Any, children: list[dict[int, dict[int, int]]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Follows the model's choices from the roots as far as the drafts of all rows have them: for each row the nodes passed
        and the tokens gained."""
        rows = group.rows
        each = range(len(rows))
        greedy = logits.argmax(-1).tolist() if self.is_plain_greedy else None
        nodes = [0 for _ in rows]
        paths: list[list[int]] = [[] for _ in rows]
        gained: list[list[int]] = [[] for _ in rows]
        while True:
            if greedy is not None:
                tokens = [greedy[index][nodes[index]] for index in each]
                if self.keeps_scores or self.keeps_logits:
                    scores = logits[each, nodes].float()
                    self.keep(group, scores, scores)
            else:
                tokens = self.choose(group, logits[each, nodes])
            if self.has_end:
                tokens = [self.padding if row.is_done else token for row, token in zip(rows, tokens)]
            group.append(torch.tensor(tokens, device=group.ids.device))
            if self.streamer is not None:
                self.streamer.put(torch.tensor(tokens))
            ends = self.criteria(group.text, tuple(group.scores) if self.keeps_scores else None).tolist()
            for row, own, token, is_end in zip(rows, gained, tokens, ends):
                if not row.is_done:
                    own.append(token)
                row.is_done |= is_end
            following = [children[index].get(nodes[index], {}).get(tokens[index]) for index in each]
            if group.is_done or None in following:
                return paths, gained
            nodes = [node for node in following if node is not None]
            for path, node in zip(paths, nodes):
                path.append(node)

    def choose(self, group: Group, logits: Any) -> list[int]:
        """The tokens that plain `generate` would choose behind the group's text."""
        scores = logits.to(copy=True, dtype=torch.float32, device=group.ids.device)
        raw = scores.clone() if self.keeps_logits else None
        scores = self.processors(group.text, scores)
        self.keep(group, scores, raw)
        if not self.config.do_sample:
            return list(scores.argmax(-1).tolist())
        probabilities = torch.nn.functional.softmax(scores, dim=-1)
        if len(self.groups) == 1:
            return list(torch.multinomial(probabilities, num_samples=1).squeeze(1).tolist())
        # What torch.multinomial does for one sample, with the noise of this step of the batch and of this row.
        row = group.rows[0]
        noise = self.noise_of(row.length - self.prompt_length, probabilities)
        return [int((probabilities[0] / noise[row.index]).argmax().item())]

    def noise_of(self, step: int, probabilities: Any) -> Any:
        """The random numbers of all rows at a step: drawn in the order of steps, as plain `generate` draws them."""
        while len(self.noise) <= step:
            shape = (len(self.groups), probabilities.shape[-1])
            noise = torch.empty(shape, dtype=probabilities.dtype, device=probabilities.device)
            self.noise.append(noise.exponential_(1))
        return self.noise[step]

    @property
    def padding(self) -> int:
        return int(self.config._pad_token_tensor)

    def keep(self, group: Group, scores: Any, raw: Any) -> None:
        if self.keeps_scores:
            group.scores.append(scores)
        if self.keeps_logits:
            group.logits.append(raw)

    def count(self, row: Row, tree: DraftTree, size: int, path: list[int], gained: list[int]) -> None:
        stats = self.owner.stats
        stats.passes += 1
        stats.tokens += len(gained)
        stats.drafted += size - 1
        stats.accepted += len(path)
        if self.owner._observer is not None:
            self.owner._observer(DraftStep(row.index, tree, size, tuple(path), tuple(gained)))


def _split(logits: Any, groups: list[Group]) -> Any:
    return logits.split([len(group.rows) for group in groups])


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


def _result(groups: list[Group], config: Any, cache: Any) -> Any:
    """What plain `generate` returns: shorter rows are filled up with the padding token."""
    texts = [group.text for group in groups]
    longest = max(text.shape[1] for text in texts)
    pad = config._pad_token_tensor
    fill = int(pad) if pad is not None else 0
    sequences = torch.cat([torch.nn.functional.pad(text, (0, longest - text.shape[1]), value=fill) for text in texts])
    if not config.return_dict_in_generate:
        return sequences

    def steps(name: str) -> tuple[Any, ...] | None:
        kept = [getattr(group, name) for group in groups]
        if not kept[0]:
            return None
        nothing = torch.zeros_like(kept[0][0])
        count = max(len(own) for own in kept)
        return tuple(torch.cat([own[step] if step < len(own) else nothing for own in kept]) for step in range(count))

    whole: Any = sequences
    # A cache that rows have left is no longer that of all of them.
    last = cache if len(groups) == 1 else None
    return GenerateDecoderOnlyOutput(sequences=whole, scores=steps("scores"), logits=steps("logits"), cache=last)
