"""`python -m evals.yard FOLDER [--part train|test|all]`."""

from __future__ import annotations

from pathlib import Path

import click

from evals.yard.folder import write
from proto.errors import WatchwordError


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--part", type=click.Choice(["train", "test", "all"]), default="all", show_default=True)
def main(folder: Path, part: str) -> None:
    """Compose the project's own dataset into FOLDER; what is there already stays."""
    try:
        write(folder, part, told=click.echo)
    except WatchwordError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{folder}: ready. Next: watchword eval run {folder}")


if __name__ == "__main__":
    main()
