"""`diff`: what differs between two moments."""

import heapq
import json
import sys
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Annotated, Any, TextIO

import typer

from cdc.cli import INTERRUPTED, common
from cdc.cli.common import MOMENT, Destination, Json, Namespace, Tail, moment
from cdc.cli.naming import STDOUT, naming
from cdc.cli.parts import Digests, Keys, KeysFile, Partitions, Sets, Where, part_of
from cdc.cli.progress import bars
from cdc.codec.decode import jsonable
from cdc.errors import Differs, UsageError
from cdc.replayer.diff import Diff
from cdc.replayer.differences import Difference, Tally
from cdc.replayer.report import Cancelled, Watch
from cdc.replayer.versions import Certainty

SHOWN = 50
"""So many records are shown unless all are asked for."""
WIDE = 60
"""So many characters of a value are shown."""

Since = Annotated[str, typer.Argument(help=MOMENT)]
Until = Annotated[str, typer.Argument(help="The other moment; the last one unless given.")]
Records = Annotated[bool, typer.Option("--records", help=f"Show the records that differ, {SHOWN} at the most.")]
All = Annotated[bool, typer.Option("--all", help="Show them all, as they are found.")]
Values = Annotated[bool, typer.Option("--values", help="Show them with the values of the bins that differ.")]
ListIn = Annotated[
    str, typer.Option("--list", help="Name all records that differ, a JSON line each, in this file (-: stdout).")
]
Bins = Annotated[str, typer.Option("--bins", help="Only where these bins differ: A,B.")]
ExitCode = Annotated[
    bool, typer.Option("--exit-code", help=f"End with {Differs.exit_code} where anything differs, instead of 0.")
]


def diff(
    context: typer.Context,
    since: Since,
    until: Until = "latest",
    records: Records = False,
    every: All = False,
    values: Values = False,
    list_in: ListIn = "",
    exit_code: ExitCode = False,
    sets: Sets = None,
    key: Keys = None,
    digest: Digests = None,
    keys_file: KeysFile = "",
    partition: Partitions = None,
    where: Where = None,
    bins: Bins = "",
    namespace: Namespace = "",
    destination: Destination = "",
    tail: Tail = "auto",
    as_json: Json = False,
) -> int:
    """What differs between two moments: records by set, one by one, and bin by bin."""
    if every and as_json:
        raise UsageError("--all shows records as they are found", "For programs there is --list FILE.")
    if list_in == STDOUT and (as_json or records or every or values):
        raise UsageError("--list - has standard output to itself", "Name a file, or leave the others out.")
    records = records or every or values
    part = part_of(sets, key, digest, keys_file, partition, where, bins)
    first = _First(SHOWN if records and not every else 0)
    shown_in = sys.stderr if list_in == STDOUT else sys.stdout
    from cdc.service.roles import stop_on_signals  # with the kernels' compiler, which takes a second

    with common.replayer(context, namespace, destination, tail) as replayer, naming(list_in) as name:

        def take(differing: Iterable[Difference]) -> None:
            found = list(differing)
            if name is not None:
                name(found)
            if every:
                text = "".join(f"{line}\n" for one in found for line in _lines(one, values))
                first.say(text)
            first.add(found)

        wanted = take if name is not None or records else None
        try:
            with stop_on_signals() as stop, bars() as shown:
                watch = Watch(progress=shown.update, cancel=stop)
                made = replayer.diff(since, until, part, name=wanted, watch=watch)
        except Cancelled:
            return INTERRUPTED
    if as_json:
        some = {"records": [one.to_dict() for one in first.records()]} if records else {}
        common.print_json(made.to_dict() | some)
    else:
        _print(made, shown_in)
        _print_records(made, first.records(), values, shown_in)
    return Differs.exit_code if exit_code and made.total.different else 0


class _First:
    """The first of the records that differ, by digest; any thread may add."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[int, Difference]] = []
        self._lock = Lock()

    def say(self, text: str) -> None:
        with self._lock:
            sys.stdout.write(text)

    def add(self, found: Iterable[Difference]) -> None:
        with self._lock:
            for one in found if self._most else ():
                # The heap's first is the last by digest, which goes when there are too many.
                entry = -int.from_bytes(one.digest, "big"), one
                if len(self._kept) < self._most:
                    heapq.heappush(self._kept, entry)
                elif entry[0] > self._kept[0][0]:
                    heapq.heapreplace(self._kept, entry)

    def records(self) -> list[Difference]:
        return [one for _, one in sorted(self._kept, key=lambda entry: -entry[0])]


def _print(made: Diff, out: TextIO) -> None:
    console = common.console(out)
    console.print(f"{made.namespace}: from {moment(made.since)} to {moment(made.until)}", style="bold", markup=False)
    if made.sets:
        rows = common.table(
            "set", ">created", ">removed", ">expired", ">changed", ">expiry", ">touched", ">exact", ">presumed",
            ">fuzzy", ">unsure",
        )  # fmt: skip
        for name in sorted(made.sets, key=lambda name: name or ""):
            rows.add_row("(none)" if name is None else name, *_cells(made.sets[name]))
        if len(made.sets) > 1:
            rows.add_section()
            rows.add_row("all", *_cells(made.total))
        console.print(rows)
    total = made.total
    said = f"{total.different:,} records differ" if total.different else "no record differs"
    console.print(said + (f", {total.touched:,} were written again as they were" if total.touched else ""))
    if total.unsure:
        console.print(
            f"{total.unsure:,} do not differ by what is known, but nothing was seen of them at one of the moments",
            style="yellow",
        )
    if max(made.since, made.until) > made.reconciled_at:
        console.print(f"what was deleted or expired after {moment(made.reconciled_at)} may not have been found yet")
    if made.whole:
        console.print(f"shards {', '.join(map(str, made.whole))} were read whole: {made.why}", markup=False)
    if made.scope:
        console.print(f"only {made.scope}: nothing is known of other records", markup=False, style="yellow")


def _cells(tally: Tally) -> list[str]:
    said = tally.to_dict()
    names = "created", "removed", "expired", "changed", "expiry", "touched", "exact", "presumed", "fuzzy", "unsure"
    return [f"{said[name]:,}" if said[name] else "-" for name in names]


def _print_records(made: Diff, some: list[Difference], values: bool, out: TextIO) -> None:
    for one in some:
        out.write("".join(f"{line}\n" for line in _lines(one, values)))
    left = made.total.different - len(some)
    if some and left:
        out.write(f"and {left:,} more: --all shows them, --list names them in a file\n")


def _lines(one: Difference, values: bool) -> Iterator[str]:
    """`changed  orders  alice  n, tags`: what, the set, the key or digest, the bins; and how sure, where it is not."""
    set_name = "(none)" if one.set_name is None else one.set_name
    key = one.digest.hex() if one.key is None else json.dumps(one.key, ensure_ascii=False)
    sure = "" if one.certainty == Certainty.EXACT else f"  ({one.certainty.name.lower()})"
    what = _expiries(one) if not one.bins else ", ".join(one.bins)
    yield f"{one.kind.name.lower():<8} {set_name}  {key}  {what}{sure}"
    for name, (before, after) in one.bins.items() if values else ():
        yield f"         {name}: {_value(before)} -> {_value(after)}"


def _expiries(one: Difference) -> str:
    """Where no bin differs, the expiry or the stored user key does."""
    sides = [side["void_time"] for side in (one.before, one.after) if side is not None]
    ends = ["never" if void_time is None else moment(void_time) for void_time in sides]
    return f"expires {' -> '.join(ends)}" if len(set(ends)) > 1 else "the stored user key"


def _value(value: tuple[Any, ...]) -> str:
    if not value:
        return "(not there)"
    text = json.dumps(jsonable(*value), ensure_ascii=False)
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"
