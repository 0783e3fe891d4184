"""Registers every module of tests/fixtures, so that a fixture is found by the name of its topic."""

import importlib
from pathlib import Path

import pytest

# Before the first is imported: one that another imports could else not be rewritten any more, and pytest warns of it.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [
    f"tests.fixtures.{path.stem}"
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))
    if not path.stem.startswith("_")
]


def pytest_configure(config: pytest.Config) -> None:
    """Compile the kernels, the first time, before there are workers: each of them would, and time-outs would pass."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        root = Path(__file__).parent.parent
        for path in sorted((root / "cdc").rglob("*_kernels.py")):
            importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
