"""The command ``edgepe-agent``.

Rules kept here:
1. Data goes to stdout, talk to stderr; ``--json`` wherever something is reported.
2. Exit status 0 for success, 1 for a failure, 2 for wrong usage; an error explains itself.
3. Nothing heavy is imported before the command is known.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent import __version__
from device_agent.errors import AgentError, ExplainedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=given.log.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        return int(given.command(given))
    except AgentError as error:
        _talk(f"edgepe-agent: {error}" + (f"\n  code: {error.code}" if error.code else ""))
        return error.exit_code
    except ExplainedError as error:
        _talk(f"edgepe-agent: {error}")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgepe-agent",
        description="Runs a model on this board, reports how it does, and takes updates without ever bricking.",
        epilog="example: edgepe-agent run --config agent.toml",
    )
    parser.add_argument("--version", action="version", version=f"edgepe-agent {__version__}")
    parser.add_argument("--log", default="info", choices=("debug", "info", "warning", "error"), help="how much to say")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _command(commands, "run", _run, "serve and report until SIGTERM", "edgepe-agent run --config agent.toml")
    install = _command(
        commands,
        "install",
        _install,
        "install a bundle from a file; the agent must not run",
        "edgepe-agent install watch-1-raspberry-pi-5.edge --config agent.toml",
    )
    install.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .edge file")
    probe = _command(commands, "probe", _probe, "say what this board is and can run", "edgepe-agent probe --json")
    status = _command(
        commands, "status", _status, "say what is installed and where its update stands", "edgepe-agent status --json"
    )
    for command in (run, install, status):
        command.add_argument("--config", type=Path, default=Path("agent.toml"), help="default: agent.toml")
    for command in (install, probe, status):
        command.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, work: object, text: str, example: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"example: {example}"
    )
    parser.set_defaults(command=work)
    return parser


def _run(given: argparse.Namespace) -> int:
    from device_agent.config import load_config  # noqa: PLC0415 - rule 3
    from device_agent.supervisor import run_agent  # noqa: PLC0415 - rule 3

    run_agent(load_config(given.config))
    return 0


def _install(given: argparse.Namespace) -> int:
    from device_agent.config import load_config  # noqa: PLC0415 - rule 3
    from device_agent.memory import StateLock  # noqa: PLC0415 - rule 3
    from device_agent.update.install import install  # noqa: PLC0415 - rule 3

    config = load_config(given.config)
    lock = StateLock(config.state)
    try:
        model, probed = install(given.bundle.resolve(), config.state, config.update)
    finally:
        lock.release()
    facts = {name: probed.whole(name) for name in ("p50_us", "p99_us", "rss_bytes")}
    _show(
        {"name": model.name, "version": model.version, "target": model.target, "sha256": model.sha256, **facts},
        as_json=given.json,
    )
    return 0


def _probe(given: argparse.Namespace) -> int:
    from device_agent.runtime.base import installed_runtimes  # noqa: PLC0415 - rule 3
    from device_agent.telemetry.device import read_hardware, read_temperature_mc  # noqa: PLC0415 - rule 3

    runtimes = dict(installed_runtimes())
    facts = {**read_hardware().to_json(), "temperature_mc": read_temperature_mc(), "runtimes": runtimes}
    _show(facts, as_json=given.json)
    if not runtimes:
        _talk("No runtime is installed.\n  next: pip install 'edgepe[agent-ort]' or 'edgepe[agent-tflite]'")
    return 0 if runtimes else _FAILED


def _status(given: argparse.Namespace) -> int:
    from device_agent.config import load_config  # noqa: PLC0415 - rule 3
    from device_agent.status import read_status  # noqa: PLC0415 - rule 3

    _show(read_status(load_config(given.config)), as_json=given.json)
    return 0


def _show(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    for name, value in facts.items():
        text = value if isinstance(value, str | int) else json.dumps(value)
        sys.stdout.write(f"{name:16} {text}\n")


def _talk(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
