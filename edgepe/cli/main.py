"""The root command: finds a subcommand's module by name, reads ``edgepe.toml``, turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from device_agent.wire.errors import ExplainedError
from edgepe import __version__
from edgepe.errors import ConfigFileError

__all__ = ["COMMANDS", "cli", "main"]

SETTINGS_FILE = "edgepe.toml"

COMMANDS = {
    "bench": "Time a bundle on this machine, beside another model if you like.",
    "build": "Turn a model into one bundle per target, inside a contract.",
    "demo": "Run the whole story on this machine, in minutes.",
    "fleet": "Run and watch a fleet: broker, repository, collector and page.",
    "inspect": "Show what is in a bundle: files, signature, op table.",
    "publish": "Add a bundle to a repository that devices download from.",
    "rollout": "Bring a version to the fleet, wave by wave.",
    "targets": "List, show and check target profiles.",
    "verify": "Run a bundle again and compare it with its evidence.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported from ``edgepe.cli.<name>`` on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands without importing any."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None if there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"edgepe.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            message = f"edgepe.cli.{cmd_name}.{cmd_name} is no command"
            raise TypeError(message)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above, so that ``--help`` imports nothing."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command's name; suggest the nearest one on a typo."""
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the options that ``edgepe.toml`` supplies, keyed by command and option.

    Raises:
        ConfigFileError: The file is no TOML, or names a command that does not exist.
    """
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFileError(
            f"{path.name} is not valid TOML", expected="TOML", got=str(error), next_step=f"mend {path}"
        ) from error
    unknown = sorted(set(table) - set(COMMANDS))
    if unknown:
        raise ConfigFileError(
            f"{path.name} has a section for a command that does not exist",
            expected=f"sections named like commands: {', '.join(sorted(COMMANDS))}",
            got=", ".join(unknown),
            next_step=f"rename or remove [{unknown[0]}] in {path}",
        )
    return {
        command: {option.replace("-", "_"): value for option, value in options.items()}
        for command, options in table.items()
    }


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example:  edgepe build model.onnx --target raspberry-pi --calibration data.npz --out dist",
)
@click.version_option(__version__, prog_name="edgepe")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Compile a trained model down to a device, and keep proving it in the field."""
    ctx.default_map = read_settings(Path.cwd() / SETTINGS_FILE)


def main(args: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 ok, 1 failed, 2 wrong usage."""
    try:
        cli.main(args=args, prog_name="edgepe")
    except ExplainedError as error:
        click.echo(f"edgepe: {error}", err=True)
        sys.exit(error.exit_code)
