"""One piece of a look, from observed records to parcels: shards, sets, duplicates, what is kept aside."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdc.codec.decode import encode_content
from cdc.codec.frames import Records, Rejected
from cdc.collector.catalog import Catalog
from cdc.collector.publish import Parcel
from cdc.collector.state import ShardState
from cdc.collector.stats import Stats
from cdc.collector.sweep import Allowance, Piece, lower_bound, parcels
from cdc.model import BEGINNING, END_OF_TIME, PARTITIONS, Bodies, Op, Origin, partitions_of
from cdc.source import Observed
from cdc.topics.progress import Kind
from cdc.wire import messages as m

SHARDS = 2
ALLOWANCE = Allowance(1000, 250)
EVERYTHING = np.arange(PARTITIONS)


@pytest.fixture
def catalogs(tmp_path: Path) -> Iterator[dict[int, Catalog]]:
    made = {s: Catalog.begin(tmp_path / str(s), ShardState.begin(s, SHARDS, 7)) for s in range(SHARDS)}
    yield made
    for catalog in made.values():
        catalog.close()


def digest(partition: int, last: int = 0) -> bytes:
    return bytes([partition & 0xFF, partition >> 8, *[0] * 17, last])


def observed(
    rows: list[tuple[bytes, int, str | None]], rejected: tuple[Rejected, ...] = (), lut: int = 10_000
) -> Observed:
    contents = [encode_content(name, None, {"v": generation}) for _, generation, name in rows]
    offsets = np.cumsum([0, *map(len, contents)]).astype(np.int64)
    n = len(rows)
    records = Records(
        np.frombuffer(b"".join(d for d, _, _ in rows), np.uint8).reshape(-1, 20),
        np.array([g for _, g, _ in rows], np.int32), np.zeros(n, np.int64),
        np.array([len(name) if name else 0 for _, _, name in rows], np.uint64),
        np.array([g * 1000 for _, g, _ in rows], np.uint64),
        Bodies(np.frombuffer(b"".join(contents), np.uint8), offsets), rejected, np.full(n, -1),
    )  # fmt: skip
    return Observed(EVERYTHING, records, np.full(n, lut), np.zeros(n, np.bool_))


def looked(
    catalogs: dict[int, Catalog], seen: Observed, kind: Kind = Kind.SWEEP, at: int = 50_000, since: int | None = None
) -> list[Parcel]:
    """The parcels of a whole look, noted in the catalogs as if Kafka had committed them."""
    piece = Piece(kind, EVERYTHING, frozenset(catalogs), at, at, at + 10, seen, since)
    made = parcels(piece, catalogs, ALLOWANCE, Stats("test"))
    for parcel in made:
        parcel.catalog.commit(parcel.state, parcel.put, parcel.out)
    return made


def test_records_go_to_their_shards_and_the_catalog_drops_what_it_has(catalogs: dict[int, Catalog]) -> None:
    rows = [(digest(4000), 1, "s"), (digest(3), 1, None), (digest(2, 9), 1, "s")]
    first = looked(catalogs, observed(rows), Kind.BASE)
    assert [len(p.columns) for p in first] == [2, 1]
    assert [p.rows.tolist() for p in first] == [[2, 1], [0]]
    assert catalogs[0].state.sets == (None, "s")
    assert [c.state.based for c in catalogs.values()] == [True, True]
    assert {c.state.resolved_at for c in catalogs.values()} == {49_750}
    assert catalogs[0].state.sweep == 0
    again = looked(catalogs, observed([*rows[:2], (digest(2, 9), 2, "s")], lut=60_000), at=61_000)
    assert [len(p.columns) for p in again] == [2, 1]
    third = looked(catalogs, observed([*rows[:2], (digest(2, 9), 2, "s")], lut=60_000), at=62_000)
    assert [len(p.columns) for p in third] == [0, 0]
    assert catalogs[0].state.sweep == 2


def test_a_base_that_is_not_finished_resolves_nothing(catalogs: dict[int, Catalog]) -> None:
    half = np.array(partitions_of(0, SHARDS)[:1000])
    seen = replace(observed([(digest(3), 1, None)]), partitions=half)
    piece = Piece(Kind.BASE, half, frozenset(), 50_000, 50_000, 50_010, seen)
    (parcel,) = parcels(piece, catalogs, ALLOWANCE, Stats("test"))
    assert not parcel.complete
    assert len(parcel.partitions) == 1000
    assert (parcel.state.resolved_at, parcel.state.reconciled_at) == (0, 0)


@pytest.mark.parametrize(("since", "unobserved_since"), [(59_750, 60_750), (59_749, 49_750)])
def test_what_is_kept_aside_may_have_been_missed_by_sweeps_that_did_not_reach_as_far(
    catalogs: dict[int, Catalog], since: int, unobserved_since: int
) -> None:
    looked(catalogs, observed([]), Kind.BASE, at=50_000)
    looked(catalogs, observed([]), at=61_000)
    bad = Rejected(digest(3), "the record has no bins", b"message")
    (told, _) = looked(catalogs, observed([], (bad,)), at=62_000, since=since)
    assert told.columns.unobserved_since.tolist() == [unobserved_since]


def test_the_lower_bound_is_the_lowest_watermark_less_the_overlap(catalogs: dict[int, Catalog]) -> None:
    looked(catalogs, observed([]), Kind.BASE, at=50_000)
    catalogs[1].state.watermark[5] = 40_000
    assert lower_bound(Kind.SWEEP, catalogs, EVERYTHING, ALLOWANCE) == 39_000
    assert lower_bound(Kind.SWEEP, catalogs, EVERYTHING[:100], ALLOWANCE) == 48_750
    assert lower_bound(Kind.AUDIT, catalogs, EVERYTHING, ALLOWANCE) is None


def test_where_clocks_went_back_the_lower_bound_goes_back_too(catalogs: dict[int, Catalog]) -> None:
    looked(catalogs, observed([]), Kind.BASE, at=50_000)
    assert lower_bound(Kind.SWEEP, catalogs, EVERYTHING, ALLOWANCE, swept_at=50_000) == 48_750
    assert lower_bound(Kind.SWEEP, catalogs, EVERYTHING, ALLOWANCE, swept_at=20_000) == 18_750
    assert lower_bound(Kind.SWEEP, catalogs, EVERYTHING, ALLOWANCE, swept_at=0) == 0


def test_a_clock_set_back_does_not_take_the_watermark_back(catalogs: dict[int, Catalog]) -> None:
    looked(catalogs, observed([]), Kind.BASE, at=50_000)
    looked(catalogs, observed([]), at=20_000)
    assert {c.state.resolved_at for c in catalogs.values()} == {49_750}


def test_what_cannot_be_encoded_is_kept_aside_once_and_the_rest_goes_on(catalogs: dict[int, Catalog]) -> None:
    bad = Rejected(digest(7), "a bin's name is not UTF-8", m.Header(generation=4).pack() + b"...", 0, -1)
    seen = observed([(digest(3), 1, None)], (bad,))
    first = looked(catalogs, seen, Kind.BASE)
    assert first[0].asides == (bad,)
    assert first[0].columns.op.tolist() == [Op.WRITE, Op.ASIDE]
    assert first[0].rows.tolist() == [0, -1]
    assert (first[0].columns.effective_at[1], first[0].columns.unobserved_since[1]) == (END_OF_TIME, BEGINNING)
    assert first[0].columns.generation[1] == 4
    assert len(catalogs[0].state.floors.digest) == 0
    assert catalogs[0].state.asides == 1
    assert catalogs[0].counts()[7] == 1
    again = looked(catalogs, seen)[0]
    assert (again.asides, len(again.columns)) == ((), 0)
    other = replace(bad, message=b"another message")
    later = looked(catalogs, observed([], (other,)))[0]
    assert later.asides == (other,)
    assert later.columns.op.tolist() == [Op.ASIDE]
    assert later.columns.unobserved_since.tolist() == [49_750]
    mended = looked(catalogs, observed([(digest(7), 3, "s")], lut=60_000), at=61_000)
    assert mended[0].columns.origin.tolist() == [Origin.SWEEP]
    assert catalogs[0].counts()[7] == 1


def rebuilt(catalog: Catalog, unsure_until: int = BEGINNING) -> None:
    """The catalog as `rebuild` makes it: nothing was ever looked at in full, and what is kept aside has no checksum."""
    state = catalog.state
    state = replace(state, full=np.full_like(state.full, BEGINNING), unsure_until=unsure_until)
    known = catalog.partitions(*(partitions_of(state.shard, SHARDS)[i] for i in (0, -1)))
    catalog.commit(state, replace(known, sum_low=known.sum_low * 0, sum_high=known.sum_high * 0), known.digest[:0])


def test_what_a_rebuilt_catalog_tells_aside_once_more_does_not_blur_what_was_known_before(
    catalogs: dict[int, Catalog],
) -> None:
    bad = Rejected(digest(7), "a bin's name is not UTF-8", m.Header(generation=4).pack() + b"...", 0, -1)
    looked(catalogs, observed([]), Kind.BASE)
    looked(catalogs, observed([], (bad,)), at=60_000)
    rebuilt(catalogs[0])
    strange = replace(bad, digest=digest(8))
    again = looked(catalogs, observed([], (bad, strange)), Kind.AUDIT, at=70_000)[0]
    assert again.asides == (bad, strange)
    assert again.columns.unobserved_since.tolist() == [59_750, BEGINNING]


def test_where_later_looks_may_have_been_a_version_holds_from_its_detection_on(catalogs: dict[int, Catalog]) -> None:
    looked(catalogs, observed([]), Kind.BASE, at=50_000)
    rebuilt(catalogs[0], unsure_until=52_000)
    between = looked(catalogs, observed([(digest(3), 1, None)], lut=51_999), at=53_000)[0].columns
    assert (between.effective_at[0], between.unobserved_since[0], between.consecutive[0]) == (53_010, 49_750, False)
    after = looked(catalogs, observed([(digest(4), 1, None)], lut=53_500), at=54_000)[0].columns
    assert (after.effective_at[0], after.unobserved_since[0]) == (53_500, 52_750)


def test_a_record_without_a_digest_is_still_kept_aside(catalogs: dict[int, Catalog]) -> None:
    nameless = Rejected(b"", "a record has no digest", b"raw", 0, -1)
    assert looked(catalogs, observed([], (nameless,)), Kind.BASE)[0].asides == (nameless,)
