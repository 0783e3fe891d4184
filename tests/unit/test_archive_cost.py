"""What damage costs: the moments that can no longer be told are those that would read what is damaged, no others."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.archive import Epoch, Manifest, RestoreSet, SegmentInfo, views
from cdc.archive.cost import namespace_cost, shard_lost
from cdc.archive.listings import Listing
from cdc.archive.manifests import sha256
from cdc.archive.windows import epoch_at
from tests.unit.test_archive_verify import moments


def info(name: str, epoch: int, effective: tuple[int, int], unobserved: int, last_offset: int) -> SegmentInfo:
    return SegmentInfo(
        name=f"{name}.avro", epoch=epoch, size=1, sha256=sha256(b""), index_size=1, index_sha256="", rows=1, raw_size=1,
        first_digest="", last_digest="", first_offset=0, last_offset=last_offset, min_effective_at=effective[0],
        max_effective_at=effective[1], min_unobserved_since=unobserved, max_observed_at=effective[1],
    )  # fmt: skip


@st.composite
def manifests_of(draw: st.DrawFn) -> Manifest:
    moment = st.integers(0, 30)
    epochs = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        start = draw(moment)
        epochs.append(Epoch(number, 0, 0, draw(st.none() | st.just(start)), start + draw(st.integers(0, 15)), 99))
    number = st.integers(1, len(epochs))
    segments = [
        info(f"s{i}", draw(number), tuple(sorted((draw(moment), draw(moment)))), draw(moment), draw(moment))  # type: ignore[arg-type]
        for i in range(draw(st.integers(0, 5)))
    ]
    made_sets = [
        RestoreSet(draw(moment), draw(moment), draw(number), 1, 1, f"l{i}.json", 1, "")
        for i in range(draw(st.integers(0, 3)))
    ]
    return Manifest(
        "test", 0, 1, 1, changes_kept_from=draw(st.just(0) | moment), epochs=tuple(epochs), segments=tuple(segments),
        sets=tuple(made_sets),
    )  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(manifest=manifests_of(), data=st.data())
def test_the_moments_that_damage_costs_are_those_that_would_read_it(manifest: Manifest, data: st.DataObject) -> None:
    listed = {
        made.listing: Listing((info(f"r{i}", 1, (0, 0), 0, 0),), (info(f"b{i}", 1, (made.at, 40), made.at - 3, 0),))
        for i, made in enumerate(manifest.sets)
    }
    every = [s.name for s in (*manifest.segments, *(s for one in listed.values() for s in one.objects))]
    every += [name.replace(".avro", ".idx") for name in every] + list(listed)
    damaged = data.draw(st.sets(st.sampled_from(every))) if every else set()
    lost, in_place, windows = set(), set(), set()

    def of(made: RestoreSet) -> Listing:
        return listed[made.listing]

    for at in range(-1, 60):
        epoch = epoch_at(manifest, at)
        if epoch is None:
            continue
        windows.add(at)
        view = views.view(manifest, at, of)
        read = {name for s in view.objects for name in (s.name, s.index_name)}
        if damaged & {*read, view.base.listing if view.base else ""}:
            lost.add(at)
        beside = views.everything_beside(manifest, epoch, at, of).objects + views.changed_after(manifest, at)
        if at < manifest.changes_kept_from:
            beside = view.objects
        read = {name for s in beside for name in (s.name, s.index_name)}
        if damaged & {*read, view.base.listing if view.base else ""}:
            in_place.add(at)
    assert moments(tuple(shard_lost(manifest, damaged, of))) == lost
    assert moments(tuple(shard_lost(manifest, damaged, of, in_place=True))) == in_place
    cost = namespace_cost([(manifest, True)], damaged, of)
    assert (moments(cost.lost), moments(cost.lost_in_place)) == (lost, in_place)
    assert moments(cost.left) == windows - lost
    stopped = namespace_cost([(manifest, False)], damaged, of)
    assert (moments(stopped.lost), stopped.left) == (windows, ())
