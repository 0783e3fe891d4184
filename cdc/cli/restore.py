"""`restore`: bring a moment back, in place or elsewhere."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from cdc.api import Outcome
from cdc.cli import INTERRUPTED, common, told
from cdc.cli.common import MOMENT, Destination, Json, Namespace, Tail
from cdc.cli.naming import STDOUT, naming
from cdc.cli.parts import Bins, Digests, Expired, Keys, KeysFile, Partitions, Sets, Where, part_of
from cdc.cli.progress import bars
from cdc.errors import CdcError, RecordsRefused, UsageError
from cdc.replayer.journal import LAST, Journal
from cdc.replayer.report import Report, Watch
from cdc.replayer.wanted import Wanted

At = Annotated[str, typer.Option("--at", help=MOMENT)]
Into = Annotated[
    str,
    typer.Option("--into", help="NAMESPACE or NAMESPACE@HOST:PORT[,HOST:PORT]; without it the namespace is rewound."),
]
IntoSet = Annotated[
    str,
    typer.Option(
        "--into-set",
        help="Write the records of the one --set into this set, of the namespace itself or of --into; they need stored "
        "user keys for that.",
    ),
]
Existing = Annotated[
    Literal["fail", "keep", "newer", "replace"],
    typer.Option(
        "--existing",
        help="With --into: what becomes of records that are there already. fail: there must be none; keep: they stay; "
        "newer: they stay if they were written after the version that would be; replace: they are replaced.",
    ),
]
Metadata = Annotated[
    Literal["none", "before", "after"],
    typer.Option(
        "--metadata",
        help="With --into: make indexes and UDF modules as they were, where they are missing, before or after the "
        "records.",
    ),
]
Resume = Annotated[
    str,
    typer.Option("--resume", help="Go on with this one of `restores`, or the last, instead of beginning another one."),
]
NamedFile = Annotated[
    Path, typer.Option("--named", help="Where records that were refused or not touched are named, a JSON line each.")
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Afterwards compare what is in the target with what was meant to be left there."
    ),
]
ListFuzzy = Annotated[
    str,
    typer.Option(
        "--list-fuzzy",
        help="With --dry-run: name the records that are presumed or fuzzy, a JSON line each, in this file (-: stdout).",
    ),
]


def restore(
    context: typer.Context,
    at: At = "",
    namespace: Namespace = "",
    destination: Destination = "",
    into: Into = "",
    into_set: IntoSet = "",
    sets: Sets = None,
    key: Keys = None,
    digest: Digests = None,
    keys_file: KeysFile = "",
    partition: Partitions = None,
    where: Where = None,
    bins: Bins = "",
    expired: Expired = "keep",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="In place: also records that changed after their last capture.")
    ] = False,
    existing: Existing = "fail",
    metadata: Metadata = "none",
    named: NamedFile = Path("restore-refused.jsonl"),
    list_fuzzy: ListFuzzy = "",
    tail: Tail = "auto",
    verify: Verify = True,
    resume: Resume = "",
    as_json: Json = False,
) -> int:
    """Bring the namespace, or a part of it, back to a moment: in place (a rewind), or as a clone into another place."""
    if list_fuzzy and not dry_run:
        raise UsageError("--list-fuzzy names records before anything is done: it goes with --dry-run")
    if resume:
        return _resume(context, resume, namespace, verify, as_json)
    if not at:
        raise UsageError("to which moment?", "Give --at, or --resume to go on with a restore.")
    for place in ("into", "into_set"):
        if _given(context, place) and not context.params[place]:  # a variable that was not set: it would rewind
            option = "--" + place.replace("_", "-")
            raise UsageError(f"{option} is empty, and names no place", "Leave it out to rewind the namespace.")
    part = part_of(sets, key, digest, keys_file, partition, where, bins)
    if into_set and key:
        part = replace(part, sets=tuple(sets or ("",)))  # whose keys they are is also what is moved
    of_clones = {"--existing": existing != "fail", "--metadata": metadata != "none"}
    for option, given in ({"--overwrite": overwrite} if into or into_set else of_clones).items():
        if given:
            how = (
                "with --into: it says what a rewind does"
                if into or into_set
                else "without --into: it says what a clone does"
            )
            raise UsageError(f"{option} {how}", "Leave it out.")
    wanted = Wanted(part, expired, existing, overwrite, metadata, into_set)
    with common.replayer(context, namespace, destination, tail) as replayer:
        with bars() as shown, naming(list_fuzzy) as name:
            # Counting reads once what is read again to be written: only who is asked, or only looks, needs it.
            looked = dry_run or not yes
            made = replayer.plan(at, into, wanted, count=looked, name=name, watch=Watch(progress=shown.update))
        if dry_run or not as_json:
            told.print_plan(made, as_json, sys.stderr if list_fuzzy == STDOUT else sys.stdout)
        if dry_run:
            return 0
        if not yes and (made.counts is None or made.counts.touched or (overwrite and made.counts.spare)):
            told.ask(made, replayer.place(made))

        def work(watch: Watch) -> Outcome:
            return replayer.restore(made, named_file=named, verify=verify, watch=watch)

        return _do(context, work, verify, as_json)


GOES_BY_ITS_OWN = frozenset({"resume", "namespace", "as_json", "yes", "verify"})


def _resume(context: typer.Context, id: str, namespace: str, verify: bool, as_json: bool) -> int:
    """It is asked what it was asked: nothing else can be told to it."""
    given = {name for name in context.params if _given(context, name)} - GOES_BY_ITS_OWN
    if given:
        named = ", ".join("--" + name.replace("_", "-") for name in sorted(given))
        raise UsageError(f"{named} with --resume: a restore goes on as it was begun", "Leave it out.")
    journal = Journal(common.settings(context).replayer.journal)
    entry = journal.last(namespace) if id == LAST else journal.entry(id)
    of = (entry.asked.namespace, entry.asked.destination) if entry.asked is not None else (namespace, "")
    with common.replayer(context, *of) as replayer:
        return _do(context, lambda watch: replayer.resume(entry.id, verify=verify, watch=watch), verify, as_json)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _do(context: typer.Context, work: Callable[[Watch], Outcome], verify: bool, as_json: bool) -> int:
    from cdc.service.roles import stop_on_signals  # with the kernels' compiler, which takes a second

    # What goes on with it goes on by the same settings.
    settings = [] if context.obj is None else ["--config", str(context.obj)]
    command = shlex.join(["aerospike-cdc", *settings, "restore"])
    try:
        with stop_on_signals() as stop, bars() as shown:
            done = work(Watch(progress=shown.update, cancel=stop))
    except CdcError as error:
        if isinstance(error.report, Report) and (as_json or error.report.begun):
            told.print_report(error.report, as_json, command)
        error.hint = error.hint.replace("aerospike-cdc restore", command)
        raise
    told.print_report(done.report, as_json, command)
    if not done.report.complete or (verify and done.report.verification is None):
        return INTERRUPTED
    return 0 if done.report.whole else RecordsRefused.exit_code
