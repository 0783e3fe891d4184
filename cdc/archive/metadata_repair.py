"""Repair of the metadata in an archive: from other destinations, and by no longer naming what nobody has.

Of the last look it says what is known by whoever knows the latest; what Kafka has besides, the next intake adds.
"""

from collections.abc import Mapping, Sequence

from cdc.archive import metadata, remake
from cdc.archive.items import Line
from cdc.archive.mend import Left, Step
from cdc.archive.siblings import Sibling
from cdc.archive.store import Store
from cdc.errors import KeyRefused


def repair(
    store: Store, namespace: str, others: Sequence[Sibling], now: int, *, dry: bool
) -> tuple[list[Step], list[Left]]:
    """Bring it back to whole, or with `dry` say how. An archive that has none gets that of another destination.

    What the metadata was between two looks is lost with an object that nobody else has; what it is now is not. Raises
    what the store raises, FormatTooNew.
    """
    stores = {one.name: one.archive.store for one in others}
    wrong = metadata.check(store, namespace, content=True)[1]
    here = metadata.sound(store, namespace)
    there = {name: found for name, other in stores.items() if (found := metadata.sound(other, namespace)) is not None}
    if not wrong and (here is not None or not there):
        return [], []
    latest = max(there, key=lambda name: there[name].until, default="")
    base = here or there.get(latest)
    sealed = [Left(-1, name, error.message) for name, error in wrong.items() if isinstance(error, KeyRefused)]
    if sealed:
        return [], sealed
    if base is None:
        return [_removed(store, name, dry=dry) for name in wrong], []
    steps: list[Step] = []
    left: list[Left] = []
    kept: list[Line] = []
    for line in base.earlier:
        if metadata.bytes_of(store, namespace, line) is not None:
            kept.append(line)
        elif (step := _copied(store, namespace, line, stores, dry=dry)) is not None:
            kept.append(line)
            steps.append(step)
        else:
            name = metadata.name_of(namespace, line.number)
            left.append(Left(-1, name, "nobody else has it: what changed around it is known less surely"))
    if here is not None and not left and here.number == metadata.highest(store, namespace):
        return steps, left
    later = latest if here is None or (latest and there[latest].until > here.until) else ""
    if here is not None and later:
        kept.append(metadata.line_of(here))
    said = there[later] if later else base
    name = metadata.directory(namespace) if dry else metadata.renew(store, said, kept, now)
    source = f" as {later} has it" if later else ""
    steps.append(Step(-1, name, "metadata", later, 0, f"{name}: the metadata of the last look is written anew{source}"))
    return steps, left


def _copied(store: Store, namespace: str, line: Line, stores: Mapping[str, Store], *, dry: bool) -> Step | None:
    """An object put back from whoever has its very bytes."""
    name = metadata.name_of(namespace, line.number)
    for source, other in stores.items():
        data = metadata.bytes_of(other, namespace, line)
        if data is not None:
            if not dry:
                remake.write_over(store, name, data)
            return Step(-1, name, "copy", source, len(data), f"{name} is put back from {source}")
    return None


def _removed(store: Store, name: str, *, dry: bool) -> Step:
    if not dry:
        store.delete(name)
    return Step(-1, name, "remove", "", 0, f"{name} is removed: nobody has it whole, and the next intake begins anew")
