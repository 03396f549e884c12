"""Settings that a host's process finds: from a file, from variables."""

from __future__ import annotations

import logging
import time

import pytest

from lookahead_drafts import build_corpus, inspect_corpus, vocabulary_fingerprint
from lookahead_drafts.settings import Housekeeping, Settings, SettingsError, fingerprint_of


def load(tmp_path, text: str = "", **variables: str) -> Settings:
    path = tmp_path / "drafts.toml"
    path.write_text(text)
    return Settings.load({"LOOKAHEAD_CONFIG": str(path), **variables})


def test_without_settings_requests_learn_from_each_other():
    settings = Settings.load({})
    assert settings == Settings() and settings.share == "readwrite"


def test_variables_win_over_the_file(tmp_path):
    text = 'max_bytes = "64MiB"\nlearning = false\ncorpora = ["a.trie", "b.trie"]\ntoken_cost = 1'
    settings = load(tmp_path, text, LOOKAHEAD_MAX_BYTES="2 GiB", LOOKAHEAD_FIXED_COST="0.5")
    assert settings.max_bytes == 2 << 30 and settings.corpora == ("a.trie", "b.trie")
    assert (settings.fixed_cost, settings.token_cost, settings.share) == (0.5, 1.0, "read")
    assert load(tmp_path, text, LOOKAHEAD_SHARING="off").share == "off"
    assert load(tmp_path, text, LOOKAHEAD_CORPORA="x:y").corpora == ("x", "y")
    assert load(tmp_path, text, LOOKAHEAD_FINGERPRINT="0xff").fingerprint == 255
    assert load(tmp_path, "max_bytes = 1048576").max_bytes == 1 << 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bytes = 1", "there is no setting 'bytes'; there are: corpora, "),
        ('max_bytes = "64 apples"', "max_bytes = '64 apples': a number of bytes"),
        ("max_bytes = true", "a number of bytes"),
        ('learning = "yes"', "learning = 'yes': true or false is needed"),
        ('corpora = "a.trie"', "a list of paths is needed"),
        ("snapshot = 1", "a path is needed"),
        ("token_cost = -1", "a number of at least 0 is needed"),
        ("save_every = 1.5", "a whole number of at least 0 is needed"),
        ("max_bytes = ", "drafts.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        load(tmp_path, text)
    assert "drafts.toml" in str(caught.value)


def test_a_wrong_variable_is_named(tmp_path):
    with pytest.raises(SettingsError, match="LOOKAHEAD_SHARING=maybe: on or off"):
        Settings.load({"LOOKAHEAD_SHARING": "maybe"})
    with pytest.raises(SettingsError, match="LOOKAHEAD_TOKEN_COST=much: a number"):
        Settings.load({"LOOKAHEAD_TOKEN_COST": "much"})
    with pytest.raises(SettingsError, match="no-such-file"):
        Settings.load({"LOOKAHEAD_CONFIG": str(tmp_path / "no-such-file")})


class Words:
    """A tokenizer of three tokens and a hole."""

    def __len__(self) -> int:
        return 4

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [["a", "b", None, "c"][index] for index in ids]


def test_files_are_opened_for_the_tokenizer_and_replaced_ones_are_taken(tmp_path, caplog):
    corpus, snapshot = tmp_path / "corpus.trie", tmp_path / "snapshot.trie"
    fingerprint = fingerprint_of(Words())
    assert fingerprint == vocabulary_fingerprint(["a", "b", "", "c"])
    build_corpus(corpus, [[1, 2, 3]], fingerprint=fingerprint)
    settings = load(tmp_path, f'corpora = ["{corpus}"]\nsnapshot = "{snapshot}"')
    trie = settings.open(Words())
    watch = Housekeeping(settings, trie)

    def follows() -> list[int]:
        return trie.start([1, 2], share="read").draft_chain(1, min_probability=0.0).tolist()

    assert follows() == [3]
    build_corpus(corpus, [[1, 2, 4, 5]], fingerprint=fingerprint)
    assert follows() == [3]
    watch.look()
    assert follows() == [4]
    with caplog.at_level(logging.WARNING):
        (tmp_path / "half").write_bytes(b"half a file")
        (tmp_path / "half").replace(corpus)
        watch.look()
    assert "the old one stays" in caplog.text and follows() == [4]
    corpus.unlink()
    watch.look()
    assert follows() == [4]
    with pytest.raises(SettingsError, match="set `fingerprint`"):
        settings.open(None)


def test_a_tokenizer_that_cannot_be_read_matters_to_files_alone(tmp_path, caplog):
    missing = str(tmp_path / "no-tokenizer")
    trie = load(tmp_path, "").open(missing)
    assert trie.fingerprint == 0 and "cannot be read" in caplog.text
    assert load(tmp_path, "").open(Words()).fingerprint == fingerprint_of(Words())
    with pytest.raises(OSError, match="no-tokenizer"):
        load(tmp_path, f'snapshot = "{tmp_path / "snapshot.trie"}"').open(missing)


def test_a_corpus_that_is_not_there_yet_is_taken_when_it_comes(tmp_path):
    corpus = tmp_path / "corpus.trie"
    settings = load(tmp_path, f'corpora = ["{corpus}"]\nreload_every = 10\nfingerprint = 3')
    with pytest.raises(FileNotFoundError, match="corpus.trie"):
        settings.open(None)
    trie = settings.open(None, waits=True)
    housekeeping = Housekeeping(settings, trie)
    build_corpus(corpus, [[1, 2, 3]], fingerprint=3)
    for step in range(1, 11):
        assert list(trie.corpora()) == [], f"looked at step {step}"
        housekeeping.step(finished=0)
    for _ in range(500):
        if trie.corpora():
            break
        time.sleep(0.01)
    assert list(trie.corpora()) == [str(corpus)]


def test_the_first_answer_makes_the_snapshot_and_later_ones_its_journal(tmp_path):
    snapshot = tmp_path / "drafts.trie"
    settings = load(tmp_path, f'snapshot = "{snapshot}"\nfingerprint = 3\nsave_every = 4')
    trie = settings.open(None)
    housekeeping = Housekeeping(settings, trie)
    housekeeping.step(finished=0)
    assert not snapshot.exists()
    with trie.start([1]) as request:
        request.append([10, 11, 12])
    housekeeping.step(finished=1)
    for _ in range(500):
        if snapshot.exists():
            break
        time.sleep(0.01)
    assert inspect_corpus(snapshot)["texts"] == 1
    with trie.start([1]) as request:
        request.append([20, 21])
    assert inspect_corpus(snapshot)["journaled"] == 1
