"""`verify` at a prompt: a sound archive is OK, a damaged one is named with what it costs, the database is compared."""

import os
from dataclasses import replace
from pathlib import Path

import aerospike
import pytest

from cdc.archive import Archive, LocalStore
from cdc.errors import ConfigError, Differs, ObjectDamaged, ObjectMissing, UsageError
from tests.e2e.test_commands import between_looks, captured
from tests.fixtures.commands import TARGET, Operator
from tests.fixtures.service import Service


def _files(operator: Operator, part: str) -> list[Path]:
    return sorted(p for p in (operator.folder / "archive").rglob("*") if p.is_file() and part in str(p))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_damage_is_named_costed_and_refused(operator: Operator, encrypted: bool) -> None:
    (operator.folder / "key").write_text(os.urandom(32).hex())
    encryption = {"archive.encryption": {"key_file": "key"}} if encrypted else {}
    operator.configure(compactor={"set_every_s": 1}, collector={"shards": 1}, **encryption)
    shop = operator.shop()
    shop.place(50)
    captured(operator)
    between_looks()
    shop.trade(20)
    captured(operator)
    between_looks()
    shop.trade(20)
    captured(operator)

    for tier in ("presence", "hashes", "decode"):
        said = operator.good("verify", "--tier", tier)
        assert "OK" in said.out
        assert "garbage" not in said.out
    told = operator.good("verify", "--new", "--json").json
    assert (told["ok"], told["bytes"], told["lost"], bool(told["since"])) == (True, 0, [], True)

    first = _files(operator, "/segments/")[0]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    answer = operator.run("verify", "--json")
    assert answer.code == ObjectDamaged.exit_code
    named = str(first.relative_to(operator.folder / "archive"))
    assert [(d["object"], d["kind"], d["shard"]) for d in answer.json["damage"]] == [(named, "damaged", 0)]
    [window] = operator.good("list", "--json").json["windows"]
    assert answer.json["lost"][0]["start"] == window["start"]
    assert answer.json["left"][-1]["end"] == window["end"]  # a restore set later than it does without it
    for span in answer.json["left"]:
        operator.good("restore", "--at", span["end"], "--into", TARGET, "--existing", "replace", "--yes")
    for span in answer.json["lost"]:
        refused = operator.run("restore", "--at", span["start"], "--into", TARGET, "--existing", "replace", "--yes")
        assert (refused.code, named in refused.err) == (ObjectDamaged.exit_code, True)
    assert answer.json["lost"][0]["start"] < answer.json["left"][0]["start"]
    shown = operator.run("verify")
    assert "cannot be restored" in shown.out
    assert "can still be restored" in shown.out

    first.unlink()
    assert operator.run("verify", "--tier", "presence", "--new").code == ObjectMissing.exit_code
    _files(operator, "format.json")[0].write_text("{}")
    assert operator.run("verify").code == ObjectDamaged.exit_code


def test_the_database_is_compared_with_the_archive(operator: Operator) -> None:
    operator.configure(compactor={"set_every_s": 1})
    shop = operator.shop()
    shop.place(100)
    operator.client.put((operator.namespace, "extra", "k"), {"n": 1}, policy={"ttl": 3600})
    captured(operator)
    between_looks()
    shop.trade(30)
    captured(operator)
    whole = operator.good("verify", "--tier", "live", "--json").json
    assert (whole["ok"], whole["different"], whole["unarchived"], whole["gone"], whole["unlike"]) == (True, 0, 0, 0, 0)
    assert whole["same"] > 100

    between_looks()
    operator.client.put((operator.namespace, "extra", "k"), {"n": 2})
    operator.client.put((operator.namespace, "extra", "new"), {"n": 2})
    shop.bad_deploy(corrupt=0, delete=3)
    later = operator.good("verify", "--tier", "live", "--json").json
    assert (later["changed"], later["gone"], later["different"], later["unarchived"]) == (2, 3, 0, 0)
    assert later["unlike"] > 0
    assert "2 written since, 3 deleted since" in operator.good("verify", "--tier", "live").out
    captured(operator)
    again = operator.good("verify", "--tier", "live", "--json").json
    assert (again["changed"], again["gone"], again["unlike"], again["ok"]) == (0, 0, 0, True)


def test_what_the_archive_lacks_or_has_otherwise_is_told(operator: Operator) -> None:
    """An archive of another time takes the place of what was captured since: two segments of it are gone."""
    operator.configure(collector={"shards": 1})
    for n in range(10):
        operator.client.put((operator.namespace, "orders", n), {"n": n})
    captured(operator)
    between_looks()
    operator.client.put((operator.namespace, "orders", 3), {"n": "changed"})
    operator.client.put((operator.namespace, "orders", 11), {"n": 11})
    captured(operator)
    _drop_last_segment(operator)
    answer = operator.run("verify", "--tier", "live", "--json")
    assert answer.code == Differs.exit_code
    assert (answer.json["ok"], answer.json["different"], answer.json["unarchived"]) == (False, 1, 1)
    digests = {bytes(aerospike.calc_digest(operator.namespace, "orders", n)).hex() for n in (3, 11)}
    assert set(answer.json["named"]) == digests
    assert "2 records differ" in operator.run("verify", "--tier", "live").out


def _drop_last_segment(operator: Operator) -> None:
    """As a compactor would leave it that lost what it had read."""
    archive = Archive.open(LocalStore(operator.folder / "archive"), operator.namespace)
    manifest = archive.shard(0)
    assert manifest is not None
    archive.commit(replace(manifest, segments=manifest.segments[:-1]))


def test_a_running_service_verifies_what_is_new_and_shows_damage_until_it_is_mended(service: Service) -> None:
    operator = service.operator
    operator.configure(
        collector={"sweep_every_s": 0.2, "shards": 1},
        compactor={"segment_every_s": 0.2, "set_every_s": 3600},
        archive={"verify_every_s": 0.2},
    )
    operator.shop().place(20)
    service.start()

    def verifier() -> tuple[bool, str]:
        roles = {r["role"]: r for r in service.health()[1].get("roles", [])}
        found = roles.get("verifier", {})
        return found.get("up", False), found.get("error") or ""

    def named() -> list[Path]:
        if not _files(operator, "/manifests/"):
            return []
        manifest = Archive.open(LocalStore(operator.folder / "archive"), operator.namespace).shard(0)
        return [operator.folder / "archive" / s.name for s in manifest.segments] if manifest else []

    service.until(lambda: named() and _files(operator, "/verified/"), "nothing is verified")
    service.until(lambda: verifier()[0], "the verifier is not up")
    first = named()[0]
    away = first.with_suffix(".away")
    first.rename(away)
    service.until(lambda: verifier() == (False, f"ObjectMissing: the archive of {operator.namespace}: 1 missing"), "?")
    away.rename(first)
    service.until(lambda: verifier()[0], "the verifier does not go on")
    service.stop()
    assert sum("trying again" in line for line in service.said()) == 1


def test_what_cannot_be_compared_is_said(operator: Operator) -> None:
    assert operator.run("verify").code == ObjectMissing.exit_code
    assert operator.run("verify", "--tier", "live", "--new").code == UsageError.exit_code
    operator.shop().place(5)
    captured(operator)
    operator.configure(**{f"scope.{operator.namespace}": {"include": ["orders"]}})
    answer = operator.run("verify", "--tier", "live")
    assert (answer.code, "is about everything" in answer.err) == (ConfigError.exit_code, True)
