"""What the commands about an archive say of one that is not as it should be, and in which words."""

import json
import shutil
from pathlib import Path

import pytest

from cdc.archive import Archive
from cdc.cli.app import invoke
from cdc.errors import ObjectDamaged
from cdc.units import count
from tests.fixtures.commands import Answer
from tests.unit.test_archive_verify import Kept, made


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    (tmp_path / "aerospike-cdc.toml").write_text(
        '[aerospike]\nnamespaces = ["test"]\n[collector]\nshards = 2\n'
        # Nobody listens there, and nothing here asks.
        '[kafka]\nbootstrap = "127.0.0.1:1"\ntimeout_s = 0.2\n[archive.retention]\nchanges_days = 1\n'
    )
    return made(Kept(tmp_path / "archive", encrypted=False))


def run(kept: Kept, capsys: pytest.CaptureFixture[str], *words: str) -> Answer:
    capsys.readouterr()
    code = invoke(["--config", str(kept.path.with_name("aerospike-cdc.toml")), *words])
    said = capsys.readouterr()
    return Answer(code, said.out, said.err)


def test_damaged_metadata_is_called_so_where_garbage_is_looked_for(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept.path / "test" / "metadata").mkdir()
    (kept.path / "test" / "metadata" / f"{1:020d}.json").write_text("{}")
    answer = run(kept, capsys, "prune", "--dry-run")
    assert answer.code == ObjectDamaged.exit_code
    assert "nothing of the metadata was looked for as garbage: test/metadata/" in answer.err


def test_a_sound_archive_that_leads_nowhere_is_not_just_called_ok(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nothing can be restored" not in run(kept, capsys, "verify").out
    shutil.rmtree(kept.path / "test" / "shard-0001")
    shutil.rmtree(kept.path / "test" / "verified")  # nobody has ever seen what is gone
    answer = run(kept, capsys, "verify")
    assert (answer.code, "OK" in answer.out) == (0, True)
    assert "nothing can be restored: shard 1 has nothing in the archive" in answer.out
    told = json.loads(run(kept, capsys, "verify", "--json").out)
    assert (told["left"], told["nowhere"]) == ([], ["shard 1 has nothing in the archive"])


@pytest.mark.parametrize("words", [("list",), ("restore", "--at", "latest", "--dry-run"), ("keep",), ("prune",)])
def test_an_archive_that_lost_its_format_is_not_taken_for_none(
    kept: Kept, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (kept.path / "test" / "format.json").unlink()
    answer = run(kept, capsys, *words)
    assert answer.code == ObjectDamaged.exit_code
    assert "test/format.json is not in the archive, and the archive's manifests are" in answer.err
    assert "`repair` writes it anew" in answer.err
    assert "1 thing was repaired" in run(kept, capsys, "repair").out
    assert run(kept, capsys, "list").code == 0


def test_nothing_is_begun_over_an_archive_that_lost_its_format(kept: Kept) -> None:
    (kept.path / "test" / "format.json").unlink()
    with pytest.raises(ObjectDamaged, match=r"format\.json is not in the archive"):
        Archive.create(kept.store(), "test", 4)
    assert not (kept.path / "test" / "format.json").exists()


def test_one_is_not_said_as_many_are() -> None:
    assert [count(n, "record") for n in (0, 1, 2, 1234)] == ["0 records", "1 record", "2 records", "1,234 records"]
