"""Whose turn it is, told in the archive, so that other machines know of it: of a namespace one rewind goes on at a
time, and one drill.

turns/<namespace>/<what>/<20-digit number>.json     {"turn": {"version", "by", "until"}, "sha256"}

On one machine files are locked for that. Machines have nothing in common but the archive, where no lock ends with its
holder: so a turn says until when it holds, and is told again, by another object, as long as it lasts. It is no fence,
since guards and the comparison afterwards keep what is written right: it tells people before they meet.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cdc.archive import Store, manifests
from cdc.clock import Clock, rfc3339, wall_clock
from cdc.errors import ArchiveError, ObjectMissing, RestoreError

HELD_MS: Final = 60_000
"""A turn holds so long after it was told."""
AGAIN_S: Final = 15.0
"""It is told again after so long."""
AHEAD_MS: Final = 60_000
"""So far its holder's clock may be ahead of ours: clocks of machines never quite agree."""

_NUMBERED: Final = re.compile(r"\d{20}\.json")


def here(journal: Path) -> str:
    """Whoever works by a journal of this machine, where locks of files keep them apart."""
    return f"{socket.gethostname()}, journal {journal.absolute()}"


@contextmanager
def turn(
    store: Store, namespace: str, what: str, by: str, tell: Callable[[str], None], clock: Clock = wall_clock
) -> Iterator[str]:
    """Take the turn at `what` for as long as the block lasts; who else has it, in words, empty where it is ours.

    `tell` is told, in a line, where the archive does not take it or cannot be asked: the block is entered all the same,
    as a restore must not depend on more than reading. So it is where a turn holds for longer than it can by this
    machine's clock and what clocks may be apart: then nobody knows whether its holder is still there.
    """
    name, other = "", ""
    try:
        name, other = _take(store, f"turns/{namespace}/{what}", by, tell, clock)
    except (ArchiveError, RestoreError) as error:
        tell(f"whether another machine is at the same work is not known: {error.message}")
    if not name:
        yield other
        return
    held, over = [name], threading.Event()
    again = threading.Thread(target=_hold, args=(store, held, by, tell, clock, over), daemon=True)
    again.start()
    try:
        yield ""
    finally:
        over.set()
        again.join()
        try:
            for name in held:
                store.delete(name)
        except ArchiveError as error:
            tell(f"others may take this for running until {HELD_MS // 1000} s after its end: {error.message}")


def _take(store: Store, directory: str, by: str, tell: Callable[[str], None], clock: Clock) -> tuple[str, str]:
    """The name of the turn that was taken, or who has it."""
    while True:
        taken = _names(store, directory)
        other = _other(store, taken, by, tell, clock)
        if other:
            return "", other
        name = f"{directory}/{max(map(_number, taken), default=0) + 1:020d}.json"
        if not store.put_if_absent(name, _said(by, clock)):
            continue  # somebody else was as quick
        for one in taken:
            store.delete(one)
        # Whoever looked before one turn ended and another began may have taken a lower number, or a higher one.
        other = _other(store, [one for one in _names(store, directory) if one != name], by, lambda line: None, clock)
        if not other:
            return name, ""
        store.delete(name)
        return "", other


def _other(store: Store, taken: list[str], by: str, tell: Callable[[str], None], clock: Clock) -> str:
    for name in taken:
        try:
            said = manifests.unseal("turn", store.get(name), name)
        except ObjectMissing:
            continue  # it has just ended
        left = int(said["until"]) - clock()
        if said["by"] == by or left <= 0:
            continue
        if left <= HELD_MS + AHEAD_MS:
            return f"{said['by']}, as was said until {rfc3339(int(said['until']))}"
        tell(f"{said['by']} may be at the same work, or not any more: its clock is ahead of this one")
    return ""


def _hold(
    store: Store, held: list[str], by: str, tell: Callable[[str], None], clock: Clock, over: threading.Event
) -> None:
    """Tell it again and again; `held` are the objects that say so."""
    while not over.wait(AGAIN_S):
        last = held[-1]
        name = f"{last.rpartition('/')[0]}/{_number(last) + 1:020d}.json"
        try:
            if not store.put_if_absent(name, _said(by, clock)):
                tell("somebody else took the turn, as if this had ended")
                return
            held.append(name)
            store.delete(last)
            held.remove(last)
        except ArchiveError as error:
            tell(f"other machines cannot be told that this goes on: {error.message}")
            return


def _names(store: Store, directory: str) -> list[str]:
    """The turns of a directory. What is named otherwise, as a copy that somebody made of one, is none."""
    return [name for name in store.list(directory) if _NUMBERED.fullmatch(name.rpartition("/")[2])]


def _number(name: str) -> int:
    return int(name[-25:-5])


def _said(by: str, clock: Clock) -> bytes:
    return manifests.seal("turn", {"version": manifests.FORMAT_VERSION, "by": by, "until": clock() + HELD_MS})
