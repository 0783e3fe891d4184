"""Settings from a TOML file and the environment; the environment wins.

The file is the one named by `--config`, else by AEROSPIKE_CDC_CONFIG, else `aerospike-cdc.toml` here if it is there. A
variable is AEROSPIKE_CDC__SECTION__KEY, for instance AEROSPIKE_CDC__KAFKA__BOOTSTRAP. Relative paths are relative to
the file's folder, so that a service and a person at a prompt mean the same archive.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cdc.config import Section, Settings
from cdc.errors import ConfigError

FILE_NAME = "aerospike-cdc.toml"
FILE_VARIABLE = "AEROSPIKE_CDC_CONFIG"
PREFIX = "AEROSPIKE_CDC__"
ANY_NAME = {"scope": "NAMESPACE", "destinations": "NAME"}
"""What stands for the name in what is said of a section that has one of the operator's choice."""
S = TypeVar("S", bound=Section)


class _Loaded(BaseSettings, Settings):
    """`Settings` with the environment as the first source; what is handed in comes second."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """The settings. ConfigError says for every wrong one which it is, what is wrong, and the nearest known name."""
    named = path or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    file = named or Path(FILE_NAME)
    values: dict[str, Any] = {}
    if named is not None or file.exists():
        values = _read(file)
    _check_variables(os.environ)
    try:
        loaded = _Loaded(**values)
    except SettingsError as error:
        wrong = getattr(error.__cause__, "doc", None)
        variables = [n for n, value in os.environ.items() if n.upper().startswith(PREFIX) and value == wrong]
        raise ConfigError(
            f"environment variable {', '.join(variables) or PREFIX + '…'}: not valid JSON",
            f'A list is JSON there: {PREFIX}AEROSPIKE__NAMESPACES=["a", "b"] (quoted, in a shell).',
        ) from None
    except ValidationError as error:
        where = str(file) if values else "the environment"
        raise ConfigError(f"{where}: " + "; ".join(_explain(error))) from None
    settings = Settings.model_construct(**{name: getattr(loaded, name) for name in Settings.model_fields})
    return _anchored(settings, file.resolve().parent).apart()


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file", "`aerospike-cdc init` writes a commented one.") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None


def _check_variables(environment: Mapping[str, str]) -> None:
    """An unknown section in a variable's name would be passed over in silence; refuse it as in the file."""
    for name in environment:
        if name.upper().startswith(PREFIX):
            section = name[len(PREFIX) :].split("__")[0].lower()
            if section not in Settings.model_fields:
                raise ConfigError(f"environment variable {name}: " + _unknown([section]))


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        loc = [str(part) for part in problem["loc"] if part != "[key]"]  # so pydantic says that it means the name
        if problem["type"] == "extra_forbidden":
            yield _unknown(loc)
            continue
        message = problem["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        got = "" if _secret(loc) or isinstance(problem["input"], dict | BaseModel) else f" (got {problem['input']!r})"
        yield f"{'.'.join(loc)}: {message}{got}" if loc else message


def _secret(loc: list[str]) -> bool:
    return any("password" in part or "secret" in part for part in loc)


def _unknown(loc: list[str]) -> str:
    name = ".".join(loc)
    any_name = ".".join((loc[0], ANY_NAME.get(loc[0], loc[1]), *loc[2:]) if len(loc) > 2 else loc)
    known = [key for key, _ in known_settings()] + list(Settings.model_fields)
    near = difflib.get_close_matches(any_name, known, n=1)
    return f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else "")


def known_settings(model: type[BaseModel] = Settings, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that has a value of its own: dotted name and field."""
    for name, field in model.model_fields.items():
        inner, named = section_of(field), named_section_of(field)
        if inner is not None:
            yield from known_settings(inner, (*prefix, name))
        elif named is not None:
            yield from known_settings(named, (*prefix, name, ANY_NAME[name]))
        else:
            yield ".".join((*prefix, name)), field


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, or None for a value."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def named_section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds under names of the operator's choice, such as [scope.test]."""
    inner = get_args(field.annotation)[-1] if get_origin(field.annotation) is dict else None
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _is_path(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return any(_is_path(part) for part in get_args(annotation))
    return annotation is Path


def _anchored(section: S, folder: Path) -> S:
    """The same settings with relative paths made relative to `folder`."""
    changes: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if section_of(field) is not None:
            changes[name] = _anchored(value, folder)
        elif named_section_of(field) is not None:
            changes[name] = {key: _anchored(each, folder) for key, each in value.items()}
        elif _is_path(field.annotation) and value is not None:
            changes[name] = folder / Path(value).expanduser()
    return section.model_copy(update=changes)


def example() -> str:
    """A commented configuration with every setting at its default, made from the settings themselves."""
    lines = [
        "# aerospike-cdc: continuous backup and point-in-time recovery for Aerospike.",
        "# Every setting, with its default. What you don't change you may remove.",
        f"# A variable {PREFIX}SECTION__KEY in the environment wins over this file.",
    ]
    _write_section(lines, Settings, ())
    return "\n".join(lines) + "\n"


def _write_section(lines: list[str], model: type[Section], path: tuple[str, ...]) -> None:
    if path:
        lines += ["", *(f"# {line}" for line in cleandoc(model.__doc__ or "").splitlines()), f"[{'.'.join(path)}]"]
    for name, field in model.model_fields.items():
        if section_of(field) is None and named_section_of(field) is None:
            lines.append(f"# {field.description}")
            value = _toml(field.get_default(call_default_factory=True))
            lines.append(f"{name} = {value}" if value is not None else f'# {name} = ""')
    for name, field in model.model_fields.items():
        inner, named = section_of(field), named_section_of(field)
        if inner is not None:
            _write_section(lines, inner, (*path, name))
        elif named is not None:
            _write_named(lines, named, (*path, name, ANY_NAME[name]))


def _write_named(lines: list[str], model: type[Section], path: tuple[str, ...]) -> None:
    """A section that is there by its name alone: as comments, for whoever needs one to uncomment."""
    written: list[str] = []
    _write_section(written, model, path)
    lines += [line if not line or line.startswith("#") else f"# {line}" for line in written]


def _toml(value: Any) -> str | None:
    match value:
        case None:
            return None
        case SecretStr() | Path():
            return f'"{value.get_secret_value() if isinstance(value, SecretStr) else value}"'
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return f'"{value}"'
        case dict():
            return "{}"
        case _:
            return "[" + ", ".join(str(_toml(item)) for item in value) + "]"
