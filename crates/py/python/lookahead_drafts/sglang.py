"""Drafts in SGLang, as a speculative algorithm.

    python -m sglang.launch_server --model-path MODEL --speculative-algorithm LOOKAHEAD --speculative-num-draft-tokens 12

The package registers itself (entry point `sglang.srt.plugins`). SGLang verifies trees and has a worker for drafts out of a
corpus, `NGRAM`; ours is that worker with `LookaheadCorpus` in the corpus's place. Prompts are indexed whole, where SGLang's own
corpus sees the last tokens of them. Settings: `lookahead_drafts.settings`; corpora can come and go by SGLang's own calls.

Every rank drafts for itself and must draft the same: drafts depend on what was finished and accepted, in order, and on
nothing else. So on several ranks files are read when the server starts and are neither looked at again nor rewritten while it
runs; answers still go to the snapshot's journal. On one rank replaced corpora are taken, and the snapshot is saved.
"""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lookahead_drafts._native import DraftRequest, DraftTrie, build_corpus
from lookahead_drafts.settings import Housekeeping, Settings, Tokenizer, logger

NAME = "LOOKAHEAD"

# The token of nodes that a smaller draft is filled up with: SGLang's own corpus takes this one.
PADDING = 0


class LookaheadCorpus:
    """The draft source of SGLang's worker, in place of its `NgramCorpus`: the same calls, the same arrays.

    A request is begun with its whole prompt by `begin`; one that `batch_get` meets first begins with the tokens given there.
    """

    def __init__(
        self,
        settings: Settings,
        tokenizer: str | Tokenizer | None,
        draft_token_num: int,
        max_trie_depth: int = 18,
        external_corpus_max_tokens: int = 10_000_000,
        is_alone: bool = False,
        **_sizes_of_its_trie: Any,
    ) -> None:
        self.draft_token_num = draft_token_num
        self.external_corpus_max_tokens = external_corpus_max_tokens
        self._settings = settings
        self._tokenizer = tokenizer
        self._tail = max(max_trie_depth, draft_token_num + 1)
        self._is_alone = is_alone
        self._finished = 0
        self._open()
        self._requests: dict[str, _Followed] = {}
        self._loaded: dict[str, tuple[tempfile.TemporaryDirectory[str], Path]] = {}
        self._tokens: dict[str, int] = {}
        self._lock = threading.Lock()

    def _open(self) -> None:
        waits = self._is_alone and self._settings.reload_every > 0
        self._trie: DraftTrie = self._settings.open(self._tokenizer, waits)
        self._housekeeping = Housekeeping(self._settings, self._trie) if self._is_alone else None

    @property
    def tail(self) -> int:
        """How many of a request's last tokens `batch_get` needs."""
        return self._tail

    def knows(self, request_id: str) -> bool:
        """Whether the request has begun."""
        return request_id in self._requests

    def begin(self, request_id: str, prompt: Sequence[int]) -> None:
        """Begins a request with its whole prompt, which serves it alone."""
        known = self._requests.pop(request_id, None)
        if known is not None:
            known.request.cancel()
        request = self._trie.start(np.asarray(prompt, dtype=np.int64), share=self._settings.share)
        self._requests[request_id] = _Followed(request, len(prompt), list(prompt[-self._tail :]))

    def batch_get(
        self, req_ids: list[str], batch_tokens: list[list[int]], total_lens: list[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Drafts for a batch, each request given by its last tokens and the length of its whole text: the nodes' tokens, shape
        (requests * nodes,), and who sees whom, shape (requests * nodes * nodes,); `draft_token_num` nodes a request, the first
        of which is its last token. What the texts have gained is learned."""
        followed = [self._follow(*row) for row in zip(req_ids, batch_tokens, total_lens)]
        # The first node is the last token.
        batch = self._trie.draft_trees(
            [row.request for row in followed],
            self.draft_token_num - 1,
            min_probability=self._settings.min_probability,
        )
        if self._housekeeping is not None:
            self._housekeeping.step(self._finished)
        tokens, masks = batch.padded(self.draft_token_num, PADDING)
        return tokens.reshape(-1), masks.reshape(-1).astype(np.int64)

    def _follow(self, request_id: str, tokens: Sequence[int], total: int) -> _Followed:
        known = self._requests.get(request_id)
        if known is not None:
            gained = total - known.length
            rest = list(tokens[: len(tokens) - gained])
            if 0 <= gained <= len(tokens) and known.tail[max(len(known.tail) - len(rest), 0) :] == rest:
                known.gain(list(tokens[len(rest) :]), self._tail)
                return known
            # Its text is another than it was: what is known of it is worth nothing, and shared with nobody.
            logger.warning("request %s goes on with another text; its drafts begin anew", request_id)
        self.begin(request_id, tokens)
        followed = self._requests[request_id]
        followed.length = total
        return followed

    def batch_put(self, batch_tokens: list[list[int]]) -> None:
        """Nothing: an answer is shared when it is finished, and a prompt never."""

    def synchronize(self) -> None:
        """Nothing: there is no thread to wait for."""

    def erase_match_state(self, req_ids: list[str]) -> None:
        """Ends requests: their answers are drafted from after this."""
        for request_id in req_ids:
            known = self._requests.pop(request_id, None)
            if known is not None:
                self._finished += 1
                try:
                    known.request.finish()
                except OSError as error:  # known to this process all the same
                    logger.warning("an answer is not kept: %s", error)

    def reset(self) -> None:
        """Forgets all requests and all that was learned, corpora and the snapshot's file aside."""
        for known in self._requests.values():
            known.request.cancel()
        self._requests.clear()
        if self._settings.snapshot is not None:
            return
        self._open()
        for corpus_id, tokens in list(self._tokens.items()):
            if corpus_id in self._loaded:
                self.commit_external_corpus_load(corpus_id, tokens)

    @property
    def remaining_token_budget(self) -> int:
        """Tokens that external corpora may still have."""
        return self.external_corpus_max_tokens - sum(self._tokens.values())

    def load_external_corpus_named(self, corpus_id: str, chunks: Iterable[Sequence[int]]) -> int:
        """Indexes texts; they are drafted from once the load is committed. Called from a thread of its own."""
        with self._lock:
            if corpus_id in self._tokens or corpus_id in self._loaded:
                raise ValueError(f"External corpus '{corpus_id}' already exists; remove it first.")
        budget, loaded = self.remaining_token_budget, 0
        texts = []
        for chunk in chunks:
            loaded += len(chunk)
            if loaded > budget:
                raise ValueError(f"External corpus '{corpus_id}' has more than the {budget} tokens that are left.")
            texts.append(np.asarray(chunk, dtype=np.int64))
        folder = tempfile.TemporaryDirectory(prefix="lookahead-corpus-")
        path = Path(folder.name) / "corpus.trie"
        build_corpus(path, texts, fingerprint=self._trie.fingerprint)
        with self._lock:
            self._loaded[corpus_id] = (folder, path)
        return loaded

    def commit_external_corpus_load(self, corpus_id: str, loaded_token_count: int) -> None:
        """From here on it is drafted from."""
        with self._lock:
            _, path = self._loaded[corpus_id]
        self._trie.add_corpus(f"external/{corpus_id}", path)
        self._tokens[corpus_id] = loaded_token_count

    def remove_external_corpus(self, corpus_id: str) -> None:
        """Drafts under way may still come from it."""
        self._trie.remove_corpus(f"external/{corpus_id}")
        self._tokens.pop(corpus_id, None)
        with self._lock:
            loaded = self._loaded.pop(corpus_id, None)
        if loaded is not None:
            loaded[0].cleanup()

    def list_external_corpora(self) -> dict[str, int]:
        """Tokens by name."""
        return dict(self._tokens)


class _Followed:
    """A request that SGLang names, and how far its text is known."""

    def __init__(self, request: DraftRequest, length: int, tail: list[int]) -> None:
        self.request = request
        self.length = length
        self.tail = tail

    def gain(self, tokens: list[int], longest: int) -> None:
        self.request.append(tokens)
        self.length += len(tokens)
        self.tail = (self.tail + tokens)[-longest:]


def worker_class() -> type[Any]:
    """SGLang's worker for drafts out of a corpus, with ours in it."""
    from sglang.srt.speculative import ngram_worker

    class LookaheadWorker(ngram_worker.NGRAMWorker):  # type: ignore[misc]
        """Drafts trees from prompts, earlier answers and corpora."""

        def __init__(self, server_args: Any, gpu_id: int, nccl_port: int, target_worker: Any) -> None:
            tokenizer = getattr(target_worker, "tokenizer", None)
            is_alone = server_args.tp_size * server_args.pp_size * server_args.dp_size == 1
            corpus = functools.partial(LookaheadCorpus, Settings.load(), tokenizer, is_alone=is_alone)
            theirs, ngram_worker.NgramCorpus = ngram_worker.NgramCorpus, corpus
            try:
                super().__init__(server_args, gpu_id, nccl_port, target_worker)
            finally:
                ngram_worker.NgramCorpus = theirs
            # How many last tokens it hands over; a step gains as many as a draft has nodes, at most.
            self.max_trie_depth = self.ngram_corpus.tail

        def _prepare_draft_tokens(self, batch: Any) -> Any:
            begin_requests(self.ngram_corpus, batch.reqs)
            return super()._prepare_draft_tokens(batch)

    return LookaheadWorker


def begin_requests(corpus: LookaheadCorpus, requests: Iterable[Any]) -> None:
    """Begins those of SGLang's requests that are new. One that was retracted and is back has said something already; that was
    shared when it left, and is a part of its prompt now."""
    for request in requests:
        if not corpus.knows(request.rid):
            said = list(request.output_ids)
            prompt = list(request.origin_input_ids_unpadded)
            corpus.begin(request.rid, prompt + said if len(said) > 1 else prompt)


def register() -> None:
    """SGLang's plug-in: registers the algorithm. May be called more than once."""
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
    from sglang.srt.speculative.spec_registry import CustomSpecAlgo, get_spec

    if get_spec(NAME) is not None:
        return

    class LookaheadAlgorithm(CustomSpecAlgo):  # type: ignore[misc]
        """To all of SGLang it is its algorithm for drafts out of a corpus."""

        def is_ngram(self) -> bool:
            return True

        def has_draft_kv(self) -> bool:
            return False

        def handle_server_args(self, server_args: Any) -> None:
            from sglang.srt.arg_groups.speculative_hook import _handle_ngram

            _handle_ngram(server_args)

    @SpeculativeAlgorithm.register(NAME, supports_overlap=True, spec_class=LookaheadAlgorithm)  # type: ignore[untyped-decorator]
    def factory(server_args: Any) -> type[Any]:
        return worker_class()
