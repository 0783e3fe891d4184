"""`init`: write a commented configuration."""

from pathlib import Path
from typing import Annotated

import typer

from cdc import settings
from cdc.errors import ConfigError


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(settings.FILE_NAME),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented configuration with every setting at its default."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(settings.example())
    except FileExistsError:
        raise ConfigError(f"{file} exists", "Choose another name, or --force to overwrite it.") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", "Choose a place that can be written to.") from None
    typer.echo(
        f"wrote {file}; set aerospike.hosts, aerospike.namespaces and kafka.bootstrap, then: aerospike-cdc check"
    )
