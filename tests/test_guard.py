"""Guard: is what a lock protects safe from its own thread?"""

from __future__ import annotations

import threading

from allogger.guard import Guard


def test_a_call_that_is_left_inside_a_block_is_made_when_the_outermost_block_is_over() -> None:
    guard, seen = Guard(), []

    with guard:
        with guard:
            guard.later(lambda: seen.append(guard.is_mine()))
        assert not seen

    assert seen == [False]


def test_only_the_thread_inside_the_block_is_told_that_it_is_its_own() -> None:
    guard, seen = Guard(), []

    with guard:
        thread = threading.Thread(target=lambda: seen.append(guard.is_mine()))
        thread.start()
        thread.join()
        seen.append(guard.is_mine())

    assert seen == [False, True]
    assert not guard.is_mine()


def test_another_thread_waits_until_the_block_is_over() -> None:
    guard, seen = Guard(), []

    def enter() -> None:
        with guard:
            seen.append("other")

    with guard:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(0.05)
        seen.append("own")
    thread.join(10)

    assert seen == ["own", "other"]
