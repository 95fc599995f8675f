"""`atoll doctor`: which extension modules import in an interpreter, how, and why not."""

import platform

import click

from atoll import __version__


@click.command()
def doctor() -> None:
    """Say what of this environment works in an interpreter, and why not."""
    click.echo(f"atoll {__version__}, Python {platform.python_version()}")
