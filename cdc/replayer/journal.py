"""The journal of restores: what each was asked, by which manifests it goes, and how far it is, so that one that was
interrupted goes on.

    <journal>/<id>/restore.json     what was asked, sealed; it never changes
    <journal>/<id>/progress         how far it is (`standing`), a line for each step; locked while the restore runs
    <journal>/places/<namespace>    the id of the restore that works in place there, locked by it
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from cdc.archive import manifests
from cdc.clock import Clock, rfc3339, wall_clock
from cdc.errors import CdcError, RestoreError, UsageError
from cdc.replayer import standing as lines
from cdc.replayer.entry import Asked, Entry, State
from cdc.replayer.log import Log, told
from cdc.replayer.plan import Plan
from cdc.replayer.standing import Standing
from cdc.replayer.tail import copy

LAST: Final = "last"
KEPT: Final = 100
"""So many restores with nothing left to do are remembered."""
STALE_S: Final = 3600.0
"""Whoever made a draft so long ago died of it."""
LOCK_S: Final = 1.0
"""Somebody who looks whether a lock is held holds it for less."""


_ID: Final = re.compile(r"\d[A-Za-z0-9_-]*")
_DRAFT: Final = re.compile(r"\.\d{8}-\d{6}-(clone|rewind)-[A-Za-z0-9]*-[0-9a-f]{4}")


class Journal:
    """The restores of a directory. Nothing is made before the first begins."""

    def __init__(self, path: Path, clock: Clock = wall_clock) -> None:
        self.path = path
        self._clock = clock

    def begin(
        self,
        plan: Plan,
        *,
        hosts: tuple[str, ...] = (),
        destination: str = "main",
        named_file: Path | None = None,
    ) -> Log:
        """A new restore by a plan, of whose tail the journal keeps a copy. Raises RestoreError where the journal cannot
        be written, and where another restore works on the same namespace in place."""
        now = self._clock()
        # A name sorts by its time, and says to a person what it is.
        name = re.sub("[^A-Za-z0-9]", "", plan.namespace)[:16]
        date = rfc3339(now)[:19].replace("-", "").replace(":", "").replace("T", "-")
        id = f"{date}-{plan.kind}-{name}-{secrets.token_hex(2)}"
        asked = Asked(
            id=id,
            kind=plan.kind,
            namespace=plan.namespace,
            destination=destination,
            into=plan.into,
            hosts=hosts,
            at=plan.at,
            planned_at=plan.planned_at,
            begun_at=now,
            wanted=plan.wanted,
            records_per_s=plan.records_per_s,
            manifests=tuple((m.shard, m.sequence, manifests.sha256(manifests.encode(m))) for m in plan.manifests),
            counts={s.view.shard: s.counts for s in plan.shards if s.counts is not None},
            named_file=None if named_file is None else named_file.absolute(),
            tail=None if plan.tail is None else self.path.absolute() / id / "tail",
        )
        with told(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tidy()
        held = self._place(asked)
        try:
            with told(self.path):
                self._make(asked, plan.tail)
            return self._opened(asked, held)
        except BaseException:
            if held is not None:
                held.close()
            raise

    def resume(self, id: str, namespace: str = "") -> Log:
        """Go on with a restore: `id`, or the `last` one that can go on (of a namespace, if it is named). Raises
        UsageError where there is none, or it is complete; RestoreError where it runs, is damaged, or another restore
        works on the same namespace in place."""
        entry = self.last(namespace) if id == LAST else self.entry(id)
        if entry.state == "damaged" or entry.asked is None:
            raise RestoreError(entry.error, "Begin the restore anew; `restores --forget` removes this one.")
        if entry.state == "complete":
            raise UsageError(f"{entry.id} is complete", f"To do it again: `{entry.asked.anew}`.")
        held = self._place(entry.asked)
        try:
            return self._opened(entry.asked, held)
        except BaseException:
            if held is not None:
                held.close()
            raise

    def entries(self) -> list[Entry]:
        """Every restore, the oldest first; before them those of which nothing can be read."""
        with told(self.path):
            try:
                names = sorted(p.name for p in self.path.iterdir() if _ID.fullmatch(p.name) and p.is_dir())
            except FileNotFoundError:
                return []
        found = (self._read(name) for name in names)
        known = [entry for entry in found if entry is not None]
        return sorted(known, key=lambda entry: entry.asked.begun_at if entry.asked is not None else 0)

    def entry(self, id: str) -> Entry:
        """One restore. Raises UsageError when there is none."""
        found = self._read(id) if _ID.fullmatch(id) else None
        if found is None:
            raise UsageError(f"the journal at {self.path} has no restore {id}", "`aerospike-cdc restores` lists them.")
        return found

    def last(self, namespace: str = "") -> Entry:
        """The newest restore that can go on; one that had begun to write before any that had not. UsageError when there
        is none."""
        able = [e for e in self.entries() if e.goes_on and e.asked is not None and namespace in ("", e.asked.namespace)]
        if able:
            return [*(entry for entry in able if entry.over), *(entry for entry in able if not entry.over)][-1]
        raise UsageError("no restore is left to go on with", "`aerospike-cdc restores` lists them.")

    def forget(self, entry: Entry) -> None:
        """Remove a restore from the journal. RestoreError while it runs."""
        if entry.state == "running":
            raise RestoreError(f"{entry.id} is running", "End it first.")
        with told(self.path):
            gone = self.path / f".{entry.id}"
            with contextlib.suppress(FileNotFoundError):  # somebody else has just removed it
                (self.path / entry.id).rename(gone)
                shutil.rmtree(gone)

    def _read(self, id: str) -> Entry | None:
        path = self.path / id
        asked, now, error = None, Standing(), ""
        try:
            with told(path):
                try:
                    with (path / "progress").open("rb") as file:
                        running = not _locked(file, fcntl.LOCK_SH)
                        data = file.read()
                    asked = Asked.decode((path / "restore.json").read_bytes(), str(path / "restore.json"))
                except FileNotFoundError:
                    if not path.exists():
                        return None
                    raise
            now, _ = lines.read(data, str(path / "progress"))
        except CdcError as wrong:
            return Entry(id, "damaged", wrong.message, asked, now)
        except (KeyError, TypeError, ValueError):
            return Entry(id, "damaged", f"{path / 'restore.json'} is of another version", None, now)
        error = now.error
        ended: dict[str, State] = {"complete": "complete", "failed": "failed"}
        state: State = "running" if running else ended.get(now.ended, "interrupted")
        return Entry(id, state, error, asked, now)

    def _place(self, asked: Asked) -> IO[bytes] | None:
        """The lock on a namespace that is restored in place. Two at once would each take what the other writes for a
        change of somebody else's."""
        if asked.kind != "rewind":
            return None
        path = self.path / "places" / quote(asked.namespace, safe="")
        with told(path):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file = path.open("a+b", buffering=0)
            file.seek(0)
            other = file.read().decode(errors="replace").strip()
            if not _locked_soon(file):
                file.close()
                raise RestoreError(
                    f"{asked.namespace} is being restored in place: {other}",
                    "`aerospike-cdc restores` says how far it is; wait for its end, or interrupt it.",
                )
            file.truncate(0)
            file.write(asked.id.encode())
        return file

    def _opened(self, asked: Asked, held: IO[bytes] | None) -> Log:
        path = self.path / asked.id
        with told(path):
            file = (path / "progress").open("r+b", buffering=0)
        if not _locked_soon(file):
            file.close()
            raise RestoreError(f"{asked.id} is running", "`aerospike-cdc restores` says how far it is.")
        try:
            return Log(path, asked, file, self._clock, held)
        except BaseException:
            file.close()
            raise

    def _make(self, asked: Asked, tail: Path | None) -> None:
        draft = self.path / f".{asked.id}"
        try:
            draft.mkdir(mode=0o700)
            if tail is not None:
                copy(tail, draft / "tail")
            for name, data in (("restore.json", asked.encode()), ("progress", b"")):
                with (draft / name).open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            _sync_directory(draft)
            draft.rename(self.path / asked.id)
            _sync_directory(self.path)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def _tidy(self) -> None:
        """Remove what nobody will ask for again."""
        over = [entry for entry in self.entries() if entry.over]
        for entry in over[: max(0, len(over) - KEPT)]:
            self.forget(entry)
        for path in self.path.glob(".*"):
            if not _DRAFT.fullmatch(path.name):  # the directory may have things of others
                continue
            with contextlib.suppress(FileNotFoundError):  # whoever made it has just finished
                if path.is_dir() and time.time() - path.stat().st_mtime > STALE_S:
                    shutil.rmtree(path)


def _locked(file: IO[bytes], how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_soon(file: IO[bytes]) -> bool:
    until = time.monotonic() + LOCK_S
    while not _locked(file):
        if time.monotonic() > until:
            return False
        time.sleep(LOCK_S / 50)
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["LAST", "Asked", "Entry", "Journal", "Log", "State"]
