"""The `atoll` command.

One module a subcommand; each is imported when it is asked for, so that `atoll --help`
and `atoll doctor` never pay for the server.
"""

import importlib

import click

#: Subcommand to (module below this package, attribute): what `atoll --help` lists.
COMMANDS = {
    "bench": ("bench", "bench"),
    "doctor": ("doctor", "doctor"),
    "serve": ("serve", "serve"),
    "top": ("top", "top"),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand `cmd_name`, or None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"{__name__}.{module}"), attribute
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand that `args` begin with.

        Raises:
            click.UsageError: There is none; the message says what was probably meant.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            words = error.message.rstrip(".") + _instead(args)
            raise click.UsageError(words, ctx) from None


def _instead(args: list[str]) -> str:
    from atoll._server.checking import nearest

    name = args[0]
    if name.isascii() and (near := nearest(name.lower(), COMMANDS)):
        return f"; did you mean '{near}'?"
    if ":" in name or name.endswith(".py"):
        return f"; to serve an application: atoll serve {' '.join(args)}"
    return f"; there are {', '.join(sorted(COMMANDS))}."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="atoll", prog_name="atoll")
def main() -> None:
    """Run Python in parallel inside one process."""
