"""Registers every module of tests/fixtures, so that a fixture is found by the name of its topic."""

from pathlib import Path

import pytest

# Before the first is imported: one that another imports could else not be rewritten any more, and pytest warns of it.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [
    f"tests.fixtures.{path.stem}"
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))
    if not path.stem.startswith("_")
]
