"""What an archive claims of the records of a live program, held against the truth.

Asserted for every record and many T of the recoverable windows: what is called exact is true, and so is it that a
record was not there where nothing is said of it. Excepted is a life that no look can have shown from the version at T
to its end, as in `claims`. A record at rest must be exact: deletes were looked for between its last change and T, and
after T and before its next change. At one T a clone is compared with it all by the official client.
"""

from dataclasses import dataclass, field

from cdc.archive import Archive, merged, views
from cdc.archive.versions import Versions, concat
from cdc.codec.decode import to_python
from cdc.config import ReplayerSettings
from cdc.model import Columns, Op
from cdc.replayer.clone import clone
from cdc.replayer.plan import plan
from cdc.replayer.target import Target
from cdc.replayer.versions import ABSENT, Certainty, states
from cdc.source import Source
from tests.fixtures.restores import remove_all
from tests.model.claims import SHARPNESS_MS
from tests.model.live import KEYS
from tests.model.live_drive import LiveDrive
from tests.model.world import State


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a record at a moment."""

    state: State | None
    certainty: Certainty


@dataclass(slots=True)
class LiveClaims:
    """An archive beside the truth of its making."""

    drive: LiveDrive
    archive: Archive
    rows: list[list[dict[str, int]]] = field(init=False)
    """Of each record its changes, in order."""
    _key_of: dict[bytes, int] = field(init=False)
    _known: dict[bytes, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        truth = self.drive.truth
        self._key_of = {truth.digest(i): i for i in range(len(KEYS))}
        self.rows = [[] for _ in KEYS]
        for shard in range(self.archive.shards):
            manifest = self.archive.shard(shard)
            assert manifest is not None
            for epoch in manifest.epochs:
                for versions in merged.stream(
                    self.archive.store, views.everything_beside(manifest, epoch, 0, self.archive.listing)
                ):
                    self._note(versions.columns)

    def _note(self, columns: Columns) -> None:
        for n, digest in enumerate(columns.digest):
            key = self._key_of.get(digest.tobytes())
            if key is not None:
                names = ("op", "lut", "generation", "void_time", "effective_at", "unobserved_since", "observed_at")
                self.rows[key].append({name: int(getattr(columns, name)[n]) for name in names})

    def moments(self) -> list[int]:
        """Every T worth asking for, in order: what turns, changes and marks speak of, and the milliseconds beside."""
        found = {t for mark in self.drive.marks for t in (mark.clock, mark.resolved, mark.reconciled)}
        for turns in self.drive.truth.turns:
            found |= {t for turn in turns for t in (turn.earliest, turn.latest)}
        for rows in self.rows:
            found |= {row[name] for row in rows for name in ("void_time", "effective_at", "unobserved_since")}
        windows = self.archive.windows()
        found |= {t for window in windows for t in (window.start, window.end)}
        beside = {t + d for t in found for d in (-1, 0, 1)}
        return sorted(t for t in beside if any(window.start <= t <= window.end for window in windows))

    def at(self, t: int) -> list[Claim]:
        """What is said of each record. Of one that nothing is said of, that it was not there."""
        claims = [Claim(None, Certainty.EXACT) for _ in KEYS]
        for shard in range(self.archive.shards):
            view = self.archive.view(shard, t)
            versions = concat(list(self.archive.versions(view)))
            held = states(versions.columns, t, view.epoch.reconciled_at)
            for n, digest in enumerate(held.digest):
                key = self._key_of.get(digest.tobytes())
                if key is not None:
                    row = int(held.held[n])
                    state = None if row == ABSENT else self._state(versions, row)
                    claims[key] = Claim(state, Certainty(int(held.certainty[n])))
        return claims

    def _state(self, versions: Versions, row: int) -> State:
        body = versions.bodies[row]
        if body not in self._known:
            said = to_python(body)
            self._known[body] = State(said["bins"]["v"], said["void_time"] or 0)
        return self._known[body]

    def wrong(self, at: list[int]) -> list[str]:
        """What does not hold of all this."""
        out = []
        for t in at:
            for key, claim in enumerate(self.at(t)):
                true = self._true(key, t)
                if claim.certainty == Certainty.EXACT and claim.state not in true:
                    if not (claim.state is None and self._unseen(key, t)):
                        out.append(self._said(key, t, claim))
                elif self._at_rest(key, t) and (claim.certainty != Certainty.EXACT or claim.state not in true):
                    out.append("at rest: " + self._said(key, t, claim))
        return out

    def _true(self, key: int, t: int) -> list[State | None]:
        turns = self.drive.truth.turns[key]
        said = (turns[n].state for n in self.drive.truth.at(key, t))
        return [state and state.at(t) for state in said]

    def _said(self, key: int, t: int, claim: Claim) -> str:
        return f"record {key} at {t}: {claim.state} is called {claim.certainty.name}, the truth is {self._true(key, t)}"

    def _unseen(self, key: int, t: int) -> bool:
        """Whether no look can have shown the life at t from its version then to its end."""
        turns = self.drive.truth.turns[key]
        for n in self.drive.truth.at(key, t):
            life = [turn for turn in turns[n:] if turn.life == turns[n].life and turn.state is not None]
            ends = [turn.latest for turn in turns[n + 1 :] if turn.state is None or turn.life != turns[n].life]
            if not life or turns[n].state is None:
                continue
            last = life[-1].state
            assert last is not None
            ends += [last.void_time] if last.void_time else []
            told = any(
                row["op"] == Op.WRITE and life[0].earliest <= row["lut"] <= life[-1].latest for row in self.rows[key]
            )
            passed = (
                any(life[0].earliest <= m.resolved and m.clock < min(ends) for m in self.drive.marks) if ends else True
            )
            if not told and not passed:
                return True
        return False

    def _at_rest(self, key: int, t: int) -> bool:
        turns = self.drive.truth.turns[key]
        now = self.drive.truth.at(key, t)
        state = turns[now[0]].state
        if len(now) > 1 or (state is not None and state.void_time):
            return False
        following = turns[now[0] + 1].earliest if now[0] + 1 < len(turns) else None
        looked = [(mark.clock, min(mark.resolved, mark.reconciled)) for mark in self.drive.marks]
        before = any(turns[now[0]].latest < until and clock + SHARPNESS_MS < t for clock, until in looked)
        return before and any(t <= until and (following is None or clock < following) for clock, until in looked)

    def wrong_clone(self, t: int, target: Target) -> list[str]:
        """What a clone of the moment into another namespace has, and should not have."""
        remove_all(target)
        began = target.now()
        clone(self.archive, plan(self.archive, t, now=began, into=target.namespace), target)
        truth, out = self.drive.truth, []
        for key, claim in enumerate(self.at(t)):
            there = truth.get(key, target.namespace)
            state = claim.state and claim.state.at(target.now())
            wanted = {None if state is None else state.value}
            if claim.state is not None and claim.state.void_time > began:
                wanted.add(None)  # it may have expired on the way
            if there not in wanted:
                out.append(f"cloned {there}: {self._said(key, t, claim)}")
        remove_all(target)
        return out

    def report(self, wrong: list[str]) -> str:
        """Everything that a person needs to find out why, since real time does not come again."""
        lines = [*wrong[:5], repr(self.drive.program), *self.drive.notes, *map(str, self.drive.marks)]
        for key in sorted({int(text.partition("record ")[2].split()[0]) for text in wrong[:5]}):
            lines += [f"record {key}:", *map(str, self.drive.truth.turns[key]), *map(str, self.rows[key])]
        return "\n".join(lines)


def check(drive: LiveDrive, archive: Archive, target: Source) -> None:
    """Assert all of it for a finished run."""
    claims = LiveClaims(drive, archive)
    at = claims.moments()
    assert at, "nothing can be asked for"
    wrong = claims.wrong(at)
    restored = at[round(drive.program.restored * (len(at) - 1))]
    wrong += claims.wrong_clone(restored, Target.of(target, ReplayerSettings(batch_records=50)))
    assert not wrong, claims.report(wrong)
