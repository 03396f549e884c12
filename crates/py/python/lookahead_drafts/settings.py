"""Settings of the drafts inside a host that starts us by name, and so hands us no arguments: vLLM, SGLang.

They come from the TOML file that the environment variable `LOOKAHEAD_CONFIG` names, and from variables of their own, which win:
`LOOKAHEAD_MAX_BYTES`, `LOOKAHEAD_CORPORA` (paths, separated as in PATH), and so on, one for each field of `Settings`.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lookahead_drafts._native import DraftTrie, vocabulary_fingerprint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from lookahead_drafts._native import Share

logger = logging.getLogger("lookahead_drafts")

PREFIX = "LOOKAHEAD_"
_SIZES = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class SettingsError(ValueError):
    """A setting that is unknown or has a value that it cannot have."""


class Tokenizer(Protocol):
    """What a vocabulary is read from: a tokenizer of Transformers."""

    def __len__(self) -> int: ...
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]: ...


@dataclass(frozen=True)
class Settings:
    """How a host drafts."""

    max_bytes: int = 1 << 30
    """Bound of what is learned, in bytes; `"512MiB"` and the like."""
    learning: bool = True
    """Whether finished answers are drafted from later. Off: requests draft from corpora, the snapshot and their own text."""
    sharing: bool = True
    """Whether requests draft from anything but their own text. Off: nothing of one request is ever seen by another."""
    corpora: tuple[str, ...] = ()
    """Files of drafts to draft from; they are only read."""
    snapshot: str | None = None
    """The file that answers are kept in, with a journal beside it; warm from the first request after a restart."""
    fingerprint: int | None = None
    """Of the tokenizer; computed from it if there are files and this is not set."""
    min_probability: float = 0.01
    """Tokens of a smaller estimated probability are not drafted."""
    fixed_cost: float | None = None
    """What a step with any draft costs more than a plain one, in plain steps. Measured, where that is possible, if not set."""
    token_cost: float | None = None
    """What each drafted token adds, in plain steps of the batch. Measured, where that is possible, if not set."""
    save_every: int = 256
    """Finished requests between compactions of the snapshot."""
    reload_every: int = 1000
    """Steps between looks at whether a file of `corpora` was replaced, which then takes the place of the old one; 0: never."""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process.

        Raises `SettingsError` that names the file or the variable, the setting and what it can be.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        path = environment.get(PREFIX + "CONFIG")
        known = {field.name for field in fields(cls)}
        if path:
            try:
                content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise SettingsError(f"{PREFIX}CONFIG={path}: {error}") from error
            for name, value in content.items():
                if name not in known:
                    raise SettingsError(f"{path}: there is no setting '{name}'; there are: {', '.join(sorted(known))}")
                values[name] = _checked(name, value, path)
        for name in known:
            text = environment.get(PREFIX + name.upper())
            if text is not None:
                variable = PREFIX + name.upper()
                values[name] = _checked(name, _of_text(name, text, variable), variable)
        return cls(**values)

    @property
    def share(self) -> Share:
        """The same, as a request takes it."""
        return "off" if not self.sharing else "readwrite" if self.learning else "read"

    def open(self, tokenizer: str | Tokenizer | None, waits: bool = False) -> DraftTrie:
        """A draft engine with these files, for the tokenizer of this path or this one. With `waits`, a corpus that is not there
        yet is no error: `Housekeeping` takes it when it comes."""
        vocabulary = self._vocabulary(tokenizer)
        fingerprint = self.fingerprint
        if fingerprint is None:
            fingerprint = 0 if vocabulary is None else vocabulary_fingerprint(vocabulary)
        trie = DraftTrie(self.max_bytes, fingerprint, vocabulary=vocabulary)
        if self.snapshot is not None and not trie.open(self.snapshot):
            logger.warning("%s: another process writes it; what this one learns is not kept", self.snapshot)
        for path in self.corpora:
            if waits and not os.path.exists(path):
                logger.warning("%s: not there yet, and looked for every %d steps", path, self.reload_every)
                continue
            tokens = trie.add_corpus(path, path)
            logger.info("%s: drafting from %d tokens", path, tokens)
        return trie

    def _vocabulary(self, tokenizer: str | Tokenizer | None) -> list[str] | None:
        """The tokens' texts. Without files, drafts do without them where there is no tokenizer or it cannot be read."""
        is_needed = self.fingerprint is None and bool(self.corpora or self.snapshot)
        if tokenizer is None and not is_needed:
            return None
        try:
            return vocabulary_of(tokenizer)
        except Exception as error:
            if is_needed:
                raise
            logger.warning("the tokenizer cannot be read, so drafts do not know how words are spelled: %s", error)
            return None


class Housekeeping:
    """What a host does beside drafting: takes corpora that were replaced, and saves the snapshot.

    Both take their time, in threads of their own: a corpus is copied before it is drafted from, and steps go on meanwhile.
    """

    def __init__(self, settings: Settings, trie: DraftTrie) -> None:
        self._settings = settings
        self._trie = trie
        self._steps = 0
        self._saved_at: int | None = None
        self._looking = threading.Lock()
        # Corpora that were not there when the engine was opened are new when they come.
        known = trie.corpora()
        self._seen = {path: _identity(path) if path in known else None for path in settings.corpora}
        if settings.snapshot is not None:
            atexit.register(self.save)

    def step(self, finished: int) -> None:
        """After each step of the host; so many requests have finished by now."""
        self._steps += 1
        settings = self._settings
        if settings.reload_every and self._seen and self._steps % settings.reload_every == 0:
            threading.Thread(target=self.look, name="lookahead-corpora", daemon=True).start()
        if settings.snapshot is None or not finished:
            return
        # The first answer makes the file; from then on there is a journal.
        if self._saved_at is None or finished - self._saved_at >= settings.save_every:
            self._saved_at = finished
            threading.Thread(target=self.save, name="lookahead-save", daemon=True).start()

    def look(self) -> None:
        """Takes corpora that are new. What cannot be used is logged, and the old one stays."""
        with self._looking:
            for path, seen in self._seen.items():
                now = _identity(path)
                if now is None or now == seen:
                    continue
                self._seen[path] = now
                try:
                    tokens = self._trie.add_corpus(path, path)
                    logger.info("%s: new, drafting from %d tokens", path, tokens)
                except Exception as error:
                    logger.warning("the new corpus cannot be used, the old one stays: %s", error)

    def save(self) -> None:
        """Saves the snapshot. A failure is logged: its answers are in the journal, or come with the next attempt."""
        try:
            self._trie.save()
        except Exception as error:
            logger.warning("the snapshot is not saved; the next attempt comes later: %s", error)


def fingerprint_of(tokenizer: str | Tokenizer | None) -> int:
    """The fingerprint of a tokenizer, or of the one at a path: that of `lookahead trie inspect` if their token lists agree."""
    return vocabulary_fingerprint(vocabulary_of(tokenizer))


def vocabulary_of(tokenizer: str | Tokenizer | None) -> list[str]:
    """The texts of a tokenizer's tokens, or of those of the one at a path, in the order of their ids."""
    if tokenizer is None:
        raise SettingsError("the host has no tokenizer; set `fingerprint` to that of the files (`lookahead trie inspect`)")
    if isinstance(tokenizer, str):
        from transformers import AutoTokenizer

        source: Any = AutoTokenizer.from_pretrained(tokenizer)
    else:
        source = tokenizer
    tokens = source.convert_ids_to_tokens(list(range(len(source))))
    return ["" if token is None else token for token in tokens]


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _of_text(name: str, text: str, where: str) -> Any:
    if name == "corpora":
        return [path for path in text.split(os.pathsep) if path]
    if name == "snapshot":
        return text or None
    if name in ("learning", "sharing"):
        switch = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
        if text.lower() not in switch:
            raise SettingsError(f"{where}={text}: on or off is needed")
        return switch[text.lower()]
    if name == "max_bytes":
        return text
    try:
        return float(text) if name in ("min_probability", "fixed_cost", "token_cost") else int(text, 0)
    except ValueError:
        raise SettingsError(f"{where}={text}: a number is needed") from None


def _checked(name: str, value: Any, where: str) -> Any:
    def fail(what: str) -> SettingsError:
        return SettingsError(f"{where}: {name} = {value!r}: {what} is needed")

    if name == "max_bytes":
        return _bytes(value, fail('a number of bytes, or a size such as "512MiB",'))
    if name in ("learning", "sharing"):
        if not isinstance(value, bool):
            raise fail("true or false")
    elif name == "corpora":
        if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
            raise fail("a list of paths")
        return tuple(value)
    elif name == "snapshot":
        if value is not None and not isinstance(value, str):
            raise fail("a path")
    elif name in ("min_probability", "fixed_cost", "token_cost"):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise fail("a number of at least 0")
        return float(value)
    elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fail("a whole number of at least 0")
    return value


def _bytes(value: Any, error: SettingsError) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise error
    if isinstance(value, int):
        return value
    digits = value.strip().rstrip("KMGkmgiIBb ")
    unit = value.strip()[len(digits) :].strip().upper()
    try:
        return int(float(digits) * _SIZES[unit])
    except (ValueError, KeyError):
        raise error from None
