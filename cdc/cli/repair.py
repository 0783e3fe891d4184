"""`repair`: what is damaged or missing is brought back, from the archive itself, another destination or Kafka."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from cdc.archive import LocalStore, Store, open_store
from cdc.archive.repair import Repaired
from cdc.archive.repair import repair as repair_archive
from cdc.cli import common, verify
from cdc.cli.common import Json, Namespace
from cdc.cli.progress import bars
from cdc.config import Settings
from cdc.errors import ConfigError, ObjectMissing, UsageError
from cdc.units import count, size


def repair(
    context: typer.Context,
    namespace: Namespace = "",
    destination: Annotated[
        str, typer.Option("--destination", help="Only this one; one of which nothing is there yet is begun.")
    ] = "",
    source: Annotated[str, typer.Option("--from", help="Take from no other destination than this one.")] = "",
    tier: Annotated[
        verify.Tier, typer.Option("--tier", help="How thoroughly to look for damage, as `verify` does.")
    ] = "hashes",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Bring an archive back to whole, as far as it, another destination or Kafka has what is missing."""
    whole = common.settings(context)
    if source and source not in whole.destination_names:
        raise ConfigError(
            f"there is no destination {source}", f"Name one of {', '.join(whole.destination_names)} with --from."
        )
    if source and source == destination:
        raise UsageError("--from and --destination name the same", "A destination is repaired from another one.")

    def work(at: Settings) -> Repaired:
        openers = {n: open_one for n, open_one in verify.others(whole, at).items() if not source or n == source}
        with _store(at, begin=bool(destination), dry_run=dry_run) as store, bars() as shown:
            return repair_archive(store, at, openers, tier=tier, dry_run=dry_run, progress=shown.update)

    every = common.settings(context, namespace, destination).each()
    common.tell_each(
        every, work, lambda _, found: to_dict(found), lambda _, found: _print(found), as_json=as_json,
        problem=Repaired.error,
    )  # fmt: skip


@contextmanager
def _store(at: Settings, *, begin: bool, dry_run: bool) -> Iterator[Store]:
    """The destination's store; made, where it was named and there is none. A directory that is gone because it is not
    mounted must not be begun anew by chance. Of one that is yet to be made, an empty one stands for a dry run."""
    try:
        store = open_store(at.archive, create=begin and not dry_run)
    except ObjectMissing:
        if not (begin and dry_run):
            raise
        with TemporaryDirectory() as empty:
            yield LocalStore(Path(empty))
    else:
        yield store


def _print(found: Repaired) -> None:
    out = common.console()
    read = sum(step.bytes for step in found.steps)
    if found.dry_run:
        did = f"{count(len(found.steps), 'thing')} can be repaired, {size(read)} to read"
    else:
        were = "was" if len(found.steps) == 1 else "were"
        did = f"{count(len(found.steps), 'thing')} {were} repaired, {size(read)} read"
    out.print(f"[bold]{found.namespace}[/bold]: {did if found.steps else 'nothing to repair'}")
    for step in found.steps:
        out.print(f"{step.how:<8} {step.text}", markup=False)
    for left in found.left:
        out.print(f"left     {left.name}: {left.why}", markup=False)
    for name, problem in found.problems.items():
        out.print(f"{name} could not be asked: {problem}", markup=False)
    sys.stdout.flush()
    if found.found is not None and not found.dry_run:
        verify.print_found(found.found)


def to_dict(found: Repaired) -> dict[str, Any]:
    """The stable form for programs."""
    return {
        "namespace": found.namespace,
        "dry_run": found.dry_run,
        "steps": [
            {
                "object": step.name,
                "shard": step.shard if step.shard >= 0 else None,
                "how": step.how,
                "source": step.source or None,
                "bytes": step.bytes,
                "detail": step.text,
            }
            for step in found.steps
        ],
        "left": [{"object": one.name, "shard": one.shard if one.shard >= 0 else None, "why": one.why}
                 for one in found.left],
        "problems": dict(found.problems),
        "verification": verify.to_dict(found.found) if found.found is not None else None,
    }  # fmt: skip
