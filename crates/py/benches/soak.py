#!/usr/bin/env python3
"""Hours of threads that start, append, draft and finish, while corpora come and go and snapshots are written: memory stays flat.

    soak.py [--minutes 60] [--threads 6] [--pause 0.0]

Prints the resident memory every minute, and at the end the greatest of the second third against that of the last. Fails if it
has grown by more than 5 %, or if any call failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from lookahead_drafts import DraftError, DraftRows, DraftTrie, build_corpus, merge_corpora

MIB = 1 << 20
NAMESPACES = 4


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system has no /proc/self/status")


def text(chance: random.Random, length: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < length:
        if len(tokens) > 16 and chance.random() < 0.3:
            start = chance.randrange(len(tokens) - 12)
            tokens += tokens[start : start + 12]
        else:
            tokens.append(chance.randrange(30_000))
    return tokens


class Soak:
    def __init__(self, folder: Path, pause: float) -> None:
        self.folder, self.pause = folder, pause
        self.trie = DraftTrie(4 * MIB)
        self.trie.open(folder / "snapshot.trie", namespace="space 0")
        self.stop = threading.Event()
        self.failures: list[str] = []
        self.counts = {"requests": 0, "drafts": 0, "batches": 0, "corpora": 0, "saves": 0, "rows": 0}

    def guard(self, work, seed: int) -> None:
        chance = random.Random(seed)
        while not self.stop.is_set():
            try:
                work(chance)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                return
            time.sleep(self.pause)

    def requests(self, chance: random.Random) -> None:
        namespace = f"space {chance.randrange(NAMESPACES)}"
        share = chance.choice(["readwrite", "readwrite", "read", "off"])
        with self.trie.start(text(chance, chance.randrange(10, 800)), namespace=namespace, share=share) as request:
            for _ in range(chance.randrange(1, 60)):
                tree = request.draft_tree(chance.randrange(1, 40))
                said = tree.best_chain()[: chance.randrange(0, 4)].tolist() + [chance.randrange(30_000)]
                request.append(np.array(said))
                self.counts["drafts"] += 1
            if chance.random() < 0.05:
                request.cancel()
        self.counts["requests"] += 1

    def batches(self, chance: random.Random) -> None:
        batch = [self.trie.start(text(chance, 60), namespace=f"space {index % NAMESPACES}") for index in range(80)]
        for _ in range(6):
            drafts = self.trie.draft_trees(batch, 12)
            drafts.padded(13)
            self.trie.append_all(batch, [drafts[index].best_chain()[:2] for index in range(len(batch))])
        for request in batch:
            request.finish()
        try:
            batch[0].draft_tree()
        except DraftError:
            self.counts["batches"] += 1

    def corpora(self, chance: random.Random) -> None:
        paths = [str(self.folder / f"corpus {number}.trie") for number in range(3)]
        for path in paths[:2]:
            build_corpus(path, [text(chance, 2000) for _ in range(4)])
        merge_corpora(paths[2], paths[:2])
        for number in range(NAMESPACES):
            self.trie.add_corpus("corpus", paths[2], namespace=f"space {number}")
        if chance.random() < 0.3:
            self.trie.remove_corpus("corpus", namespace="space 1")
        self.trie.corpora(namespace="space 2")
        self.counts["corpora"] += 1
        time.sleep(0.2)

    def saves(self, chance: random.Random) -> None:
        self.trie.save()
        self.trie.stats(namespace="space 0")
        self.counts["saves"] += 1
        time.sleep(1.0)

    def rows(self, chance: random.Random) -> None:
        rows = DraftRows(self.trie, namespace="space 3")
        table = np.zeros((8, 512), dtype=np.int32)
        lengths = np.zeros(8, dtype=np.int32)
        for row in range(8):
            prompt = text(chance, 50)[:50]
            table[row, :50] = prompt
            lengths[row] = 50
        for _ in range(40):
            sampled = [[chance.randrange(30_000)] for _ in range(8)]
            for row in range(8):
                table[row, lengths[row]] = sampled[row][0]
                lengths[row] += 1
            rows.step(table, lengths, sampled, 8)
        rows.finish()
        self.counts["rows"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=6, help="threads with requests; four more do other things")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that each thread sleeps between two rounds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.pause)
        works = [soak.requests] * arguments.threads + [soak.batches, soak.corpora, soak.saves, soak.rows]
        threads = [threading.Thread(target=soak.guard, args=(work, seed), daemon=True) for seed, work in enumerate(works)]
        for thread in threads:
            thread.start()
        memory = []
        end = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end and not soak.failures:
            time.sleep(min(10.0, arguments.minutes * 2))
            memory.append(resident_mib())
            if len(memory) % 6 == 0:
                print(f"{memory[-1]:.1f} MiB {soak.counts}", flush=True)
        soak.stop.set()
        for thread in threads:
            thread.join()
    third = len(memory) // 3
    second, last = max(memory[third : 2 * third]), max(memory[2 * third :])
    print(f"at most {second:.1f} MiB in the second third, {last:.1f} MiB in the last: {last / second - 1:+.1%}; {soak.counts}")
    for failure in soak.failures:
        print(failure)
    sys.exit(bool(soak.failures) or last > 1.05 * second)


if __name__ == "__main__":
    main()
