"""What the subcommands share: settings of the invocation, moments as people read them, tables."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, TextIO, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from cdc import settings as loading
from cdc.api import Replayer
from cdc.archive import Archive, open_store
from cdc.clock import rfc3339
from cdc.config import Settings
from cdc.errors import ArchiveError, CdcError, ConfigError, NotRecoverable
from cdc.replayer.tail import Mode

R = TypeVar("R")

MOMENT = "RFC 3339 with zone, a duration ago (10m, 1h30m), latest, or the name of a mark."
"""How a moment is written, for whoever asks for help."""

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Namespace = Annotated[str, typer.Option("--namespace", help="Only this one of the configured namespaces.")]
Destination = Annotated[str, typer.Option("--destination", help="Only this one of the configured destinations.")]
Tail = Annotated[
    Mode,
    typer.Option(
        "--tail",
        help="What Kafka has beyond the archive. auto: taken in where it may matter, and left out where Kafka does not "
        "answer.",
    ),
]


def settings(context: typer.Context, namespace: str = "", destination: str = "") -> Settings:
    """The settings of this invocation; with a namespace or a destination, of that one alone. Raises ConfigError."""
    path: Path | None = context.obj
    loaded = loading.load(path)
    if namespace:
        loaded = loaded.of(namespace)
    return loaded.destination(destination) if destination else loaded


def replayer(context: typer.Context, namespace: str = "", destination: str = "", tail: Mode = "auto") -> Replayer:
    """What restores, of the only namespace of this invocation. Raises ConfigError."""
    path: Path | None = context.obj
    return Replayer.from_file(path, namespace=namespace, destination=destination, tail=tail, tell=notice)


def notice(line: str) -> None:
    """A line beside what was asked for, which may be read by a program."""
    sys.stderr.write(f"{line}\n")


def archive(of: Settings) -> Archive:
    """The archive that the settings' `archive` names: with several destinations that is `main`, unless `of` is that of
    another. Raises ObjectMissing when there is none yet."""
    return Archive.open(open_store(of.archive), of.aerospike.namespace)


@dataclass(frozen=True, slots=True)
class At(Generic[R]):
    """What was found at a destination, whose `settings` are those of it alone, or the error that kept from looking."""

    settings: Settings
    found: R | None
    error: CdcError | None = None

    @property
    def destination(self) -> str:
        """Its name."""
        return self.settings.archive.destination

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.settings.archive.place


def at_each(of: Settings, look: Callable[[Settings], R]) -> list[At[R]]:
    """What `look` finds at each destination of the settings. ArchiveError, ConfigError and NotRecoverable of
    one do not keep from looking at the others; where there is only one, they are raised."""
    found: list[At[R]] = []
    for one in of.each_destination():
        try:
            found.append(At(one, look(one)))
        except (ArchiveError, ConfigError, NotRecoverable) as error:
            if len(of.destination_names) == 1:
                raise
            found.append(At(one, None, error))
    return found


def several(namespace: str, found: Sequence[At[R]], to_dict: Callable[[Settings, R], dict[str, Any]]) -> dict[str, Any]:
    """What was found of a namespace, for programs: by itself where there is one destination, else in a list under
    `destinations`, each with its name, and `error` where it could not be looked at (else null)."""
    if len(found) == 1 and found[0].found is not None:
        return to_dict(found[0].settings, found[0].found)
    told = []
    for at in found:
        rest = {} if at.found is None else to_dict(at.settings, at.found)
        told.append({"destination": at.destination, "place": at.place, "error": wrong(at.error), **rest})
    return {"namespace": namespace, "destinations": told}


def tell_each(
    every: Sequence[Settings],
    look: Callable[[Settings], R],
    to_dict: Callable[[Settings, R], dict[str, Any]],
    show: Callable[[Settings, R], None],
    *,
    as_json: bool,
    problem: Callable[[R], CdcError | None] = lambda found: None,
    late: tuple[type[CdcError], ...] = (),
) -> None:
    """Look at every destination of each namespace, tell what was found there, and raise the first error: of looking, or
    what `problem` makes of what was found; those in `late` after all others. What is found is told with the settings of
    its destination alone."""
    found = [(one.aerospike.namespace, at_each(one, look)) for one in every]
    if as_json:
        print_json_each([several(namespace, places, to_dict) for namespace, places in found])
    for _, places in found if not as_json else ():
        _print_each(places, show)
    looked = [at for _, places in found for at in places]
    wrong = [problem(at.found) if at.found is not None else at.error for at in looked]
    for error in sorted((error for error in wrong if error is not None), key=lambda error: isinstance(error, late)):
        raise error


def _print_each(found: Sequence[At[R]], show: Callable[[Settings, R], None]) -> None:
    """For people: what was found at each destination under its name, or what went wrong; without a name where there is
    only one."""
    for at in found:
        if len(found) > 1:
            said = f": {wrong(at.error)}" if at.error is not None else ""
            head = f"destination {at.destination}, {at.place}{said}"
            console().print(head, style="red" if said else "", markup=False)
        if at.found is not None:
            show(at.settings, at.found)


def wrong(error: CdcError | None) -> str | None:
    """An error in one line; None for none."""
    return None if error is None else f"{type(error).__name__}: {error}"


def console(out: TextIO | None = None) -> Console:
    """Standard output, or another. Lines are not folded where it is no terminal."""
    out = out or sys.stdout
    return Console(file=out, highlight=False, width=None if out.isatty() else 200, soft_wrap=not out.isatty())


def table(*columns: str) -> Table:
    """A plain table; a name that begins with `>` stands to the right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return made


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(plain(value), indent=2) + "\n")


def print_json_each(found: Sequence[object]) -> None:
    """What was found of each namespace: by itself where there is one, else in a list under `namespaces`."""
    print_json(found[0] if len(found) == 1 else {"namespaces": found})


def plain(value: object) -> Any:
    """Dataclasses, enums and paths as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in asdict(value).items()}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value


def moment(ms: int | None) -> str:
    """A moment, or a dash."""
    return rfc3339(ms) if ms else "-"
