"""``agent.toml``: everything an agent is told, read once.

Rules kept here:
1. An unknown table or key is an error that names the nearest known one: a typo never turns a setting off silently.
2. A wrong type or range is an error with the key's full name.
3. A relative path is relative to the file.
"""

from __future__ import annotations

import difflib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from device_agent.errors import ConfigError, WireError
from device_agent.update.updater import UpdateSettings
from device_agent.wire.fields import Fields
from device_agent.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["AgentConfig", "load_config", "parse_config"]

_KEY_DIGITS = 64
_KNOWN: dict[str, tuple[str, ...]] = {
    "": ("device", "site", "state", "target"),
    "mqtt": ("url", "username", "password_file", "keepalive_s", "max_backoff_s"),
    "repository": ("url",),
    "trust": ("keys",),
    "serve": ("http", "unix"),
    "telemetry": ("interval_s", "outbox_bytes"),
    "update": ("soak_s", "probe_runs", "min_rate", "ready_timeout_s"),
    "source": ("folder", "file", "rate_hz", "loop"),
    "runtime": ("threads",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """The settings of one agent.

    Attributes:
        state: The folder of everything that survives a restart.
        broker: (host, port) or None for an agent without a fleet.
        tls: ``mqtts`` or ``mqtt``.
        keys: Trusted Ed25519 public keys, hexadecimal.
        http: (host, port) to serve on, or None.
        unix: Path of the socket to serve on, or None.
        source: JSON for the worker's ``--source``, or empty.
    """

    device: str
    site: str
    state: Path
    target: str
    broker: tuple[str, int] | None
    scheme: str
    username: str
    password_file: Path | None
    keepalive_s: int
    max_backoff_s: float
    keys: tuple[str, ...]
    http: tuple[str, int] | None
    unix: Path | None
    interval_s: float
    outbox_bytes: int
    update: UpdateSettings
    source: str
    threads: int

    @property
    def topics(self) -> Topics:
        """Return the topics of this device."""
        return Topics(site=self.site, device=self.device)


def load_config(path: Path) -> AgentConfig:
    """Read ``agent.toml``.

    Raises:
        ConfigError: It is missing, no TOML, or wrong.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The configuration {path} cannot be read.", got=str(error), next_step="Give its path with --config."
        ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration {path} is no TOML.", got=str(error)) from error
    return parse_config(values, base=path.resolve().parent)


def parse_config(values: Mapping[str, object], *, base: Path) -> AgentConfig:
    """Turn the tables of ``agent.toml`` into settings; relative paths start at ``base``.

    Raises:
        ConfigError: A key is unknown, missing or wrong.
    """
    _check_names(values)
    try:
        return _settings(values, base)
    except WireError as error:
        raise ConfigError(
            f"agent.toml: {error.what}", expected=error.expected, got=error.got, next_step=error.next_step
        ) from error


def _settings(values: Mapping[str, object], base: Path) -> AgentConfig:
    top = Fields(dict(values), "agent.toml")
    mqtt, serve, tele = top.table("mqtt"), top.table("serve"), top.table("telemetry")
    url, unix, password = mqtt.text_or_none("url"), serve.text_or_none("unix"), mqtt.text_or_none("password_file")
    scheme, broker = _broker(url) if url else ("mqtt", None)
    http = serve.text_or_none("http")
    config = AgentConfig(
        device=top.text("device"),
        site=top.text("site", default="main"),
        state=base / top.text("state"),
        target=top.text("target", default=""),
        broker=broker,
        scheme=scheme,
        username=mqtt.text("username", default=""),
        password_file=base / password if password else None,
        keepalive_s=mqtt.integer("keepalive_s", low=1, high=3600, default=30),
        max_backoff_s=_positive(mqtt, "max_backoff_s", 120.0),
        keys=tuple(_key(key) for key in top.table("trust").texts("keys")),
        http=_address(http) if http else None,
        unix=base / unix if unix else None,
        interval_s=_positive(tele, "interval_s", 10.0),
        outbox_bytes=tele.integer("outbox_bytes", low=65_536, default=64 << 20),
        update=_update(top),
        source=_source(top.table("source"), base),
        threads=top.table("runtime").integer("threads", low=1, high=256, default=1),
    )
    config.topics  # noqa: B018 - device and site are checked by making their topics
    return config


def _update(top: Fields) -> UpdateSettings:
    update, url = top.table("update"), top.table("repository").text_or_none("url")
    plain = UpdateSettings()
    return UpdateSettings(
        target=top.text("target", default=""),
        repositories=(url,) if url else (),
        soak_s=_positive(update, "soak_s", plain.soak_s),
        probe_runs=update.integer("probe_runs", low=1, high=100_000, default=plain.probe_runs),
        min_rate=update.integer("min_rate", low=1, default=plain.min_rate),
        ready_timeout_s=_positive(update, "ready_timeout_s", plain.ready_timeout_s),
    )


def _source(source: Fields, base: Path) -> str:
    """Return the JSON that the worker reads, with absolute paths."""
    folder, file = source.text_or_none("folder"), source.text_or_none("file")
    if folder is None and file is None:
        return ""
    if folder is not None and file is not None:
        raise ConfigError("agent.toml: [source] has two origins.", expected="folder or file", got="both")
    place = {"folder": str(base / folder)} if folder is not None else {"file": str(base / str(file))}
    loop = source.flag("loop") if "loop" in source.names() else True
    return json.dumps({**place, "rate_hz": _positive(source, "rate_hz", 20.0), "loop": loop})


def _positive(fields: Fields, name: str, default: float) -> float:
    value = fields.number(name, default=default)
    if value <= 0:
        raise ConfigError(f"{fields.where}.{name} is wrong.", expected="a number above 0", got=value)
    return value


def _broker(url: str) -> tuple[str, tuple[str, int]]:
    ports = {"mqtt": 1883, "mqtts": 8883}
    host, port = _host_and_port(url)
    scheme = urlsplit(url).scheme
    if scheme not in ports or not host:
        raise ConfigError("agent.toml: [mqtt] url is wrong.", expected="mqtt://host[:port] or mqtts://…", got=url)
    return scheme, (host, ports[scheme] if port is None else port)


def _address(text: str) -> tuple[str, int]:
    host, port = _host_and_port(f"//{text}")
    if not host or port is None or "/" in text:
        raise ConfigError("agent.toml: [serve] http is wrong.", expected="host:port", got=text)
    return host, port


def _host_and_port(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    try:
        return parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError("agent.toml: an address is wrong.", expected="host:port", got=url) from error


def _key(text: str) -> str:
    if len(text) != _KEY_DIGITS or any(digit not in "0123456789abcdef" for digit in text):
        raise ConfigError(
            "agent.toml: [trust] holds no Ed25519 public key.",
            expected="64 lower-case hexadecimal digits",
            got=text[:80],
        )
    return text


def _check_names(values: Mapping[str, object]) -> None:
    tables = tuple(name for name in _KNOWN if name)
    for name, value in values.items():
        if name in tables:
            if not isinstance(value, dict):
                raise ConfigError(f"agent.toml: {name} is no table.", expected=f"[{name}]", got=type(value).__name__)
            for key in value:
                _check_name(key, _KNOWN[name], where=f"[{name}] ")
        else:
            _check_name(name, (*_KNOWN[""], *tables), where="")


def _check_name(name: str, known: tuple[str, ...], *, where: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"agent.toml: {where}{name} is unknown.",
        expected=", ".join(known),
        got=name,
        next_step=f"Did you mean {near[0]!r}?" if near else None,
    )
