"""The public schemas, parsed once, and their fingerprints."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastavro import parse_schema
from fastavro.schema import fingerprint as fastavro_fingerprint
from fastavro.schema import to_parsing_canonical_form


def _directory() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "schemas"  # in a wheel; in a checkout they stand beside the package
    return installed if installed.is_dir() else package.parent / "schemas"


@cache
def text(name: str) -> str:
    """The schema file of `change`, `progress` or `metadata`, as it was written."""
    return (_directory() / f"{name}.avsc").read_text("utf-8")


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema parsed by fastavro. One dict: a list of schemas would be parsed again at every call."""
    parsed: dict[str, Any] = parse_schema(json.loads(text(name)))  # type: ignore[assignment]
    return parsed


@cache
def fingerprint(name: str) -> bytes:
    """The 8 bytes of the schema's CRC-64-AVRO, little-endian as they stand in single-object encoding (Avro 1.12)."""
    return bytes.fromhex(fastavro_fingerprint(to_parsing_canonical_form(schema(name)), "CRC-64-AVRO"))


def without_logical_types(name: str) -> Any:
    """The schema with moments as the plain longs they are on the wire."""
    return plain(schema(name))


def plain(part: Any) -> Any:
    """Any part of a schema with moments as longs."""
    if isinstance(part, dict):
        return {key: plain(value) for key, value in part.items() if key != "logicalType"}
    return [plain(item) for item in part] if isinstance(part, list) else part
