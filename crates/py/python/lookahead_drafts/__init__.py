"""Drafts for speculative decoding, out of everything seen so far: the prompt, earlier answers, corpora.

A draft is a small tree (or chain) of likely continuations. The model verifies it in one forward pass and keeps what it would
have produced itself, so that answers come several tokens a pass.

    from lookahead_drafts import DraftTrie

    trie = DraftTrie(max_bytes=256 << 20)
    with trie.start(prompt_ids) as request:
        draft = request.draft_tree(budget=16)  # draft.tokens, draft.parents, draft.probabilities
        request.append(accepted_ids)

The hosts: `lookahead_drafts.transformers`, `lookahead_drafts.vllm`, `lookahead_drafts.sglang`.
"""

from lookahead_drafts._native import (
    DraftBatch,
    DraftError,
    DraftRequest,
    DraftRows,
    DraftTree,
    DraftTrie,
    build_corpus,
    inspect_corpus,
    merge_corpora,
    vocabulary_fingerprint,
)

__all__ = [
    "DraftBatch",
    "DraftError",
    "DraftRequest",
    "DraftRows",
    "DraftTree",
    "DraftTrie",
    "build_corpus",
    "inspect_corpus",
    "merge_corpora",
    "vocabulary_fingerprint",
]
