"""What agent.toml may say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from device_agent.config import load_config
from device_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.config import AgentConfig

KEY = "ab" * 32
TOP = 'device = "pi-1"\nstate = "state"\n'
FULL = f"""
device = "pi-1"
site = "lab"
state = "state"
target = "raspberry-pi-5"
[mqtt]
url = "mqtts://broker.example:9000"
[repository]
url = "http://127.0.0.1:8000/repository"
[trust]
keys = ["{KEY}"]
[serve]
http = "127.0.0.1:8100"
unix = "serve.sock"
[telemetry]
interval_s = 2
[update]
soak_s = 1.5
[source]
file = "x.npz"
rate_hz = 20
loop = false
[runtime]
threads = 2
"""


def load(folder: Path, text: str) -> AgentConfig:
    path = folder / "agent.toml"
    path.write_text(text)
    return load_config(path)


def test_every_setting_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert (config.scheme, config.broker) == ("mqtts", ("broker.example", 9000))
    assert (config.http, config.unix) == (("127.0.0.1", 8100), tmp_path / "serve.sock")
    assert (config.state, config.keys, config.threads) == (tmp_path / "state", (KEY,), 2)
    assert (config.interval_s, config.update.soak_s) == (2.0, 1.5)
    assert config.update.repositories == ("http://127.0.0.1:8000/repository",)
    assert json.loads(config.source) == {"file": str(tmp_path / "x.npz"), "rate_hz": 20.0, "loop": False}


def test_without_a_broker_the_agent_is_on_its_own(tmp_path: Path) -> None:
    config = load(tmp_path, TOP)
    assert (config.broker, config.http, config.source, config.site) == (None, None, "", "main")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(TOP + "[mqqt]\nurl = 1\n", "Did you mean 'mqtt'", id="table"),
        pytest.param(TOP + '[mqtt]\nulr = "x"\n', "Did you mean 'url'", id="key"),
        pytest.param('devise = "x"\n' + TOP, "Did you mean 'device'", id="top"),
        pytest.param(TOP + "mqtt = 3\n", "[mqtt]", id="no table"),
        pytest.param('state = "s"\n', "'device'", id="no device"),
        pytest.param('device = "a/b"\nstate = "s"\n', "no device", id="device that is no id"),
        pytest.param(TOP + '[mqtt]\nurl = "http://x"\n', "mqtt://", id="scheme"),
        pytest.param(TOP + '[mqtt]\nurl = "mqtt://x:99999"\n', "host:port", id="port"),
        pytest.param(TOP + '[serve]\nhttp = "8100"\n', "host:port", id="serve"),
        pytest.param(TOP + '[trust]\nkeys = ["xyz"]\n', "hexadecimal", id="trust"),
        pytest.param(TOP + "[telemetry]\ninterval_s = 0\n", "above 0", id="interval"),
        pytest.param(TOP + '[telemetry]\ninterval_s = "1"\n', "a number", id="type"),
        pytest.param(TOP + '[source]\nfile = "a"\nfolder = "b"\n', "folder or file", id="two sources"),
        pytest.param(TOP + "[runtime]\nthreads = 0\n", "1 to 256", id="threads"),
        pytest.param("device = ", "no TOML", id="no TOML"),
    ],
)
def test_a_wrong_configuration_is_explained(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")
