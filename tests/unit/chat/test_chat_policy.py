"""Policies: what is kept, row by row, and what a memory makes of it."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from titan_nb.chat import ChatMemory
from titan_nb.chat import policy as policy_module
from titan_nb.chat.normalise import unit_rows
from titan_nb.chat.policy import Admission, Policy
from titan_nb.chat.store import Fading
from titan_nb.errors import ChatError, SettingsError


def rows(count: int, dimension: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def repeats(seed: int = 3) -> np.ndarray:
    """Return 90 rows, many of which repeat earlier ones more or less."""
    random = np.random.default_rng(seed)
    fresh = random.standard_normal((30, 12))
    mixed = np.concatenate([fresh, fresh, fresh + random.choice([0.01, 0.3], (30, 1)) * fresh[::-1]])
    return mixed[random.permutation(90)].astype(np.float32)


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"keep_surprising": 1}, "keep_surprising is 1: give True or False"),
            ({"half_life": 0}, "half_life is 0: give seconds, a timedelta"),
            ({"half_life": -5.0}, r"half_life is -5\.0"),
            ({"half_life": float("nan")}, "half_life is nan"),
            ({"half_life": float("inf")}, "half_life is inf"),
            ({"half_life": True}, "half_life is True"),
            ({"half_life": "30"}, "half_life is '30'"),
            ({"half_life": "a month"}, "half_life is 'a month'"),
            ({"half_life": "0d"}, "half_life is '0d'"),
            ({"half_life": timedelta(0)}, "half_life is datetime"),
            ({"floor": -0.1}, r"floor is -0\.1: give a number from 0 to 1"),
            ({"floor": 1.5}, r"floor is 1\.5"),
            ({"floor": None}, "floor is None"),
            ({"deduplicate": 0.0}, r"deduplicate is 0\.0: give a cosine"),
            ({"deduplicate": 1.1}, r"deduplicate is 1\.1"),
            ({"deduplicate": True}, "deduplicate is True"),
            ({"deduplicate": "0.9"}, "deduplicate is '0"),
        ],
    )
    def test_bad_ones_are_refused(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Policy(**options)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("half_life", "seconds"),
        [("90s", 90), ("30min", 1800), ("1.5h", 5400), ("30d", 2592000), (" 2 w ", 1209600), (60, 60)],
    )
    def test_half_lives(self, half_life: str | float, seconds: float) -> None:
        assert Policy(half_life=half_life, floor=0.1).fading(7.0) == Fading(seconds, 0.1, 7.0)
        assert Policy(half_life=timedelta(seconds=seconds)).fading(7.0) == Fading(seconds, 0.05, 7.0)

    def test_by_default_nothing_fades_and_all_is_kept(self) -> None:
        assert Policy().fading() is None
        assert Policy().admits_all
        assert Policy(half_life="1d").admits_all
        assert not Policy(keep_surprising=True).admits_all
        assert not Policy(deduplicate=0.9).admits_all

    def test_ages_are_counted_from_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy_module.time, "time", lambda: 123.0)
        fading = Policy(half_life=1).fading()
        assert fading is not None
        assert fading.now == 123.0


class TestDuplicates:
    def test_what_is_there_is_not_stored_again(self) -> None:
        memory = ChatMemory(policy=Policy(deduplicate=0.999))
        assert memory.add("a", np.eye(3)) == [0, 1, 2]
        scaled = np.array([[0, 5.0, 0.01], [1, 1, 0], [0, 1, 1], [2, 2, 0], [0, 0, 1]])
        assert memory.add("a", scaled, list("vwxyz")) == [1, 3, 4, 3, 2]
        assert [item.text for item in memory.get([1, 2, 3, 4])] == [None, None, "w", "x"]
        assert len(memory) == 5

    def test_other_chats_do_not_matter(self) -> None:
        memory = ChatMemory(policy=Policy(deduplicate=0.999))
        assert memory.add("a", np.eye(2)) == [0, 1]
        assert memory.add("b", np.eye(2)) == [2, 3]

    def test_among_equals_the_first_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy_module, "_BLOCK_ROWS", 2)
        east, north, up = np.eye(3)
        memory = ChatMemory(policy=Policy(deduplicate=0.7))
        assert memory.add("a", [east, up, north, east + north]) == [0, 1, 2, 0]
        assert memory.add("b", [east]) == [3]
        assert memory.add("b", [north, east + north]) == [4, 3]

    def test_a_limit_of_one_finds_equal_rows_in_spite_of_rounding(self) -> None:
        memory = ChatMemory(policy=Policy(deduplicate=1.0))
        table = rows(200, 384)
        table[50] = table[20] * 3
        ids = memory.add("a", table)
        assert ids[50] == ids[20]
        assert len(set(ids)) == 199
        assert memory.add("a", table) == ids

    def test_batches_of_any_size_come_to_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy_module, "_BLOCK_ROWS", 8)
        for policy in (Policy(deduplicate=0.95), Policy(keep_surprising=True), Policy(True, None, 0.0, 0.95)):
            results = []
            for size in (1, 7, 40, 90):
                memory = ChatMemory(policy=policy)
                ids = [
                    number
                    for start in range(0, 90, size)
                    for number in memory.add("a", repeats()[start : start + size])
                ]
                results.append((ids, len(memory)))
            assert results[1:] == results[:1] * 3
            assert 0 < results[0][1] < 90

    def test_ids_texts_metadata_and_times_stay_with_their_rows(self) -> None:
        memory = ChatMemory(policy=Policy(deduplicate=0.999))
        table = np.array([[1.0, 0], [1, 0], [0, 1]])
        ids = memory.add(
            "a", table, ["x", "y", "z"], [{"n": 0}, {"n": 1}, {"n": 2}], ids=[5, 6, 7], times=[1, 2, 3]
        )
        assert ids == [5, 5, 7]
        items = list(memory.list("a"))
        assert [(item.id, item.text, item.metadata) for item in items] == [
            (5, "x", {"n": 0}),
            (7, "z", {"n": 2}),
        ]
        assert [item.time.timestamp() for item in items] == [1, 3]


class TestSurprise:
    def test_by_hand(self) -> None:
        """After ten rows at right angles, each of surprise 1, only what is above their threshold is kept."""
        admission = Admission(Policy(keep_surprising=True))
        axes = unit_rows(np.eye(12)[:10])
        verdicts, surprises = admission.judge("a", axes, [None] * 10)
        assert [(one.keep, one.surprise) for one in verdicts] == [(True, 1.0)] * 10
        assert surprises.threshold == 1.0
        admission._surprises["a"] = surprises
        # Cosine 0.6 is dull; so is 0, since 1 is no more than the mean; -0.6 surprises.
        verdicts, _ = admission.judge("a", axes[:3], [(0, 0.6), (0, 0.0), (0, -0.6)])
        assert [one.surprise for one in verdicts] == pytest.approx([0.4, 1.0, 1.6])
        assert [one.keep for one in verdicts] == [False, False, True]

    def test_dull_rows_have_no_id(self) -> None:
        memory = ChatMemory(policy=Policy(keep_surprising=True))
        # The last two are at right angles to all, too: no more surprising than those before.
        assert memory.add("a", np.eye(16)[:12]) == [*range(10), None, None]
        near = np.eye(16)[:3] + 0.1 * np.eye(16)[3:6]
        assert memory.add("a", near) == [None, None, None]
        assert len(memory) == 10

    def test_dropped_rows_are_not_compared_with(self) -> None:
        admission = Admission(Policy(keep_surprising=True))
        verdicts, _ = admission.judge("a", unit_rows(np.eye(12)[:10]), [None] * 10)
        admission._surprises["a"] = _
        near = unit_rows(np.array([[1.0, 0.2], [1.0, 0.2]]))
        verdicts, _ = admission.judge("a", near, [(0, 0.98), (0, 0.98)])
        assert [one.surprise for one in verdicts] == pytest.approx([0.02, 0.02])

    def test_a_chat_that_was_forgotten_begins_anew(self) -> None:
        memory = ChatMemory(policy=Policy(keep_surprising=True))
        memory.add("a", np.eye(16)[:12])
        memory.forget("a")
        assert None not in memory.add("a", np.eye(16)[[0, 0, 1]])


def test_after_an_error_nothing_is_stored_or_remembered() -> None:
    memory = ChatMemory(policy=Policy(keep_surprising=True, deduplicate=0.999))
    memory.add("a", rows(5))
    with pytest.raises(ChatError):
        memory.add("a", rows(6, seed=1), ids=[0, 1, 2, 3, 4, 5])
    with pytest.raises(ChatError):
        memory.add("a", rows(6, 13))
    assert len(memory) == 5
    assert len(memory._admission._surprises["a"]._last) == 5
