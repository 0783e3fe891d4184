"""What `--json` gives is a stable interface: names may come, and must not go.

A test fails where one is gone, and where one came that does not stand here: then it is promised.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdc.cli.app import invoke
from cdc.clock import rfc3339
from cdc.errors import UsageError
from cdc.replayer.target import Target
from tests.fixtures.restores import History, tick

Ask = Callable[..., Any]

CERTAINTY = {"exact", "presumed", "fuzzy"}
COUNTS = {"write", "remove", "leave", "spare", "expired", "bytes"} | CERTAINTY
OBJECT = {"name", "size", "rows"}
SHARD = {"shard", "epoch", "restore_set", "objects", "counts"}
PLAN = {
    "kind", "namespace", "into", "scope", "part", "expired", "existing", "into_set", "overwrite", "at", "planned_at",
    "captured_until", "reconciled_at", "resolution", "holes", "counts", "estimated_seconds",
    "estimated_verify_seconds", "rates", "metadata", "shards",
}  # fmt: skip
VERIFICATION = {
    "namespace", "expected", "found", "right", "missing", "different", "extra", "kept", "changed", "apart", "unseen",
    "unlike", "named_file", "seconds",
}  # fmt: skip
REPORT = {
    "kind", "namespace", "at", "complete", "written", "removed", "left", "conflicts", "refused", "expired", "bytes",
    "seconds", "refusals", "named_file", "id", "reasons", "began_at", "ended_at", "verification", "metadata",
    "bins",
} | CERTAINTY  # fmt: skip
ENTRY = {
    "id", "state", "kind", "namespace", "destination", "into", "into_set", "at", "begun_at", "named_file",
    "last_said_at", "runs", "seconds", "done", "total", "counts", "error", "exit_code",
}  # fmt: skip
TALLY = {"created", "removed", "expired", "changed", "expiry", "touched", "unsure"} | CERTAINTY
DIFF = {
    "namespace", "since", "until", "reconciled_at", "scope", "compared_whole", "different", "total", "sets", "records",
}  # fmt: skip
DIFFERENCE = {"digest", "set", "key", "kind", "certainty", "before", "after", "bins"}
DRILL = {
    "passed", "namespace", "into", "at", "began_at", "partitions", "wrong", "written", "bytes", "expired", "missing",
    "different", "extra", "live_same", "live_different", "live_missing", "live_unsure", "live_changed", "uncompared",
    "left", "read_bytes", "stored_bytes", "read_s", "write_s", "verify_s", "compare_s", "clean_s",
    "recovery_s", "projected_s", "records_per_s", "differences",
} | CERTAINTY  # fmt: skip
CHANGE = {
    "digest", "op", "origin", "lut", "generation", "void_time", "effective_at", "unobserved_since", "observed_at",
    "consecutive", "set", "user_key", "bins",
}  # fmt: skip
HISTORY = {
    "namespace", "digest", "shard", "changes_kept_from", "captured_until", "reconciled_at", "scope", "versions",
}  # fmt: skip
SHOWN = {
    "namespace", "digest", "shard", "at", "scope", "present", "certainty", "reason", "blind", "version", "ended_by",
}  # fmt: skip


@pytest.fixture
def ask(
    aerospike_hosts: list[tuple[str, int]],
    namespace: str,
    history: History,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """Runs a command and gives what it says; its exit code must be that one."""
    file = tmp_path / "aerospike-cdc.toml"
    file.write_text(
        f"""
        aerospike.hosts = {json.dumps([f"{host}:{port}" for host, port in aerospike_hosts])}
        aerospike.namespaces = [{json.dumps(namespace)}]
        archive.path = {json.dumps(str(history.settings.path))}
        """
    )

    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert invoke(["--config", str(file), *arguments, "--json"]) == code
        said = capsys.readouterr()
        return json.loads(said.out if code == 0 else said.err)

    return run


@pytest.fixture
def before(client: Any, namespace: str, set_name: str, history: History) -> str:
    """A moment, after which a record was changed and another one made."""
    client.put((namespace, set_name, 1), {"n": 1})
    history.look()
    moment = tick(history.now)
    tick(history.now)
    for key in (1, 2):
        client.put((namespace, set_name, key), {"n": -1})
    history.look()
    return rfc3339(moment)


ALONE = ("--tail", "never")  # there is no Kafka here


@pytest.mark.usefixtures("empty")
def test_a_plan(ask: Ask, before: str) -> None:
    plan = ask("restore", "--at", before, "--dry-run", *ALONE)
    assert set(plan) == PLAN
    assert set(plan["part"]) == {"sets", "digests", "partitions", "bins", "where"}
    assert set(plan["counts"]) == COUNTS
    assert set(plan["resolution"]) == {"writes_ms", "deletes_ms"}
    assert set(plan["rates"]) == {"reads_per_s", "writes_per_s", "compares_per_s", "measured"}
    assert all(set(shard) == SHARD and set(shard["counts"]) == COUNTS for shard in plan["shards"])
    assert {name for shard in plan["shards"] for one in shard["objects"] for name in one} == OBJECT


def test_restores_and_a_drill(ask: Ask, before: str, empty: Target, tmp_path: Path) -> None:
    drill = ask("drill", "--at", before, "--into", empty.namespace, "--sample", "all", "--yes")
    assert set(drill) == DRILL
    drills = ask("drill", "--list")
    assert set(drills) == {"namespace", "drills"}
    assert drills["drills"] == [drill]
    named = ("--named", str(tmp_path / "named.jsonl"))
    for into in ([], ["--into", empty.namespace]):
        report = ask("restore", "--at", before, "--yes", *into, *named, *ALONE)
        assert set(report) == REPORT
        assert set(report["verification"]) == VERIFICATION
    restores = ask("restores")
    assert set(restores) == {"journal", "restores"}
    assert [set(entry) for entry in restores["restores"]] == [ENTRY, ENTRY]
    assert set(ask("restores", "--forget-complete")) == {"forgotten"}


def test_looks(ask: Ask, before: str, set_name: str) -> None:
    diff = ask("diff", before, "--records", *ALONE)
    assert set(diff) == DIFF
    assert set(diff["total"]) == TALLY
    assert [set(one) for one in diff["sets"]] == [TALLY | {"set"}]
    assert [set(one) for one in diff["records"]] == [DIFFERENCE, DIFFERENCE]
    record = ("--set", set_name, "--key", "1", *ALONE)
    history = ask("history", *record)
    assert set(history) == HISTORY
    assert [set(one) for one in history["versions"]] == [CHANGE | {"epoch", "offset", "within_blind_interval"}] * 2
    shown = ask("show", *record)
    assert set(shown) == SHOWN
    assert set(shown["version"]) == CHANGE | {"epoch", "offset"}


def test_an_error(ask: Ask) -> None:
    error = ask("restore", "--at", "yesterday", "--dry-run", *ALONE, code=UsageError.exit_code)
    assert set(error) == {"error", "message", "hint", "exit_code"}
