"""What `from cdc import …` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cdc


def _typed() -> dict[str, str]:
    """The names that a type checker finds in the package, and where."""
    tree = ast.parse(Path(cdc.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def test_a_type_checker_finds_the_names_that_there_are() -> None:
    assert _typed() == {name: f"cdc.{module}" for name, module in cdc._WHERE.items()}
    assert (Path(cdc.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", _typed())
def test_every_name_is_there(name: str) -> None:
    assert getattr(cdc, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Restorer'"):
        _ = cdc.Restorer  # type: ignore[attr-defined]


def test_the_door_opens_without_the_kernels_compiler() -> None:
    program = (
        "import sys, cdc; before = len(sys.modules); from cdc import Replayer, Wanted, Part, Watch, digest_of; "
        "print('numba' in sys.modules, 'cdc.api' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "False True\n"
    only = "import sys, cdc; print(sorted(name for name in sys.modules if name.startswith('cdc')))"
    said = subprocess.run([sys.executable, "-c", only], capture_output=True, text=True, check=True).stdout
    assert said == "['cdc']\n"
