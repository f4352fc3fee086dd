from __future__ import annotations

from collections import Counter

from titan_nb.chat.postgres.ring import Ring

CHATS = [f"chat {number}" for number in range(20_000)]


def test_chats_are_shared_out_evenly_and_for_ever() -> None:
    ring = Ring(["a", "b", "c", "d"])
    shares = Counter(map(ring.owner, CHATS))
    assert set(shares) == {"a", "b", "c", "d"}
    assert all(0.75 < share / 5000 < 1.25 for share in shares.values())
    # These places are in use in databases: a change here would lose chats.
    assert [ring.owner(f"chat {number}") for number in range(8)] == PLACES


def test_the_order_of_the_servers_has_no_say() -> None:
    one, other = Ring(["a", "b", "c"]), Ring(["c", "a", "b"])
    assert all(one.owner(chat) == other.owner(chat) for chat in CHATS[:1000])


def test_an_added_server_takes_its_share_and_no_other_chat_moves() -> None:
    before, after = Ring(["a", "b", "c", "d"]), Ring(["a", "b", "c", "d", "e"])
    moved = [chat for chat in CHATS if before.owner(chat) != after.owner(chat)]
    assert all(after.owner(chat) == "e" for chat in moved)
    assert 0.15 < len(moved) / len(CHATS) < 0.25


def test_one_server_keeps_all() -> None:
    ring = Ring(["only"])
    assert {ring.owner(chat) for chat in [*CHATS[:100], "", "Grüße 🙂"]} == {"only"}


PLACES = ["d", "b", "b", "a", "b", "c", "b", "d"]
