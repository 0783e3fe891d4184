"""Roles in threads."""

import os
import signal
import threading

import pytest

from cdc.errors import Fenced
from cdc.service.roles import LEAVE_S, Role, run_roles, stop_on_signals


def test_an_error_of_one_role_stops_the_others_and_is_raised() -> None:
    ended = []

    def fails(_stop: threading.Event) -> None:
        raise Fenced("shard 3 belongs to another")

    def waits(stop: threading.Event) -> None:
        assert stop.wait(10)
        ended.append("waits")

    with pytest.raises(Fenced, match="shard 3"):
        run_roles([Role("waits", waits), Role("fails", fails)], threading.Event())
    assert ended == ["waits"]


def test_a_role_that_waits_for_what_does_not_answer_is_left_behind_and_one_at_work_is_not() -> None:
    answered, stop, ended = threading.Event(), threading.Event(), []

    def waits(_stop: threading.Event) -> None:
        answered.wait(60)

    def works(stop: threading.Event) -> None:
        assert stop.wait(10)
        threading.Event().wait(LEAVE_S * 2)
        ended.append("works")

    stop.set()
    try:
        assert run_roles([Role("waits", waits, lambda: True), Role("works", works)], stop) == ["waits"]
        assert ended == ["works"]
    finally:
        answered.set()


def test_a_signal_ends_the_roles_cleanly() -> None:
    with stop_on_signals() as stop:
        started = threading.Event()

        def works(stop: threading.Event) -> None:
            started.set()
            assert stop.wait(10)

        def interrupts(stop: threading.Event) -> None:
            assert started.wait(10)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(10)

        run_roles([Role("works", works), Role("interrupts", interrupts)], stop)
        assert stop.is_set()
