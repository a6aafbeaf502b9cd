from __future__ import annotations

import pytest

from edgepe.verify.emulator.sources import KEYRING, Mirror, find_mirror

STANZAS = """\
# Types: deb
Types: deb deb-src
URIs: mirror:/one mirror:/two
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /keys/debian-archive-keyring.gpg

Types: deb
URIs: mirror:/security
Suites: bookworm-security
Components: main
"""


def test_the_stanzas_of_a_sources_file_are_read() -> None:
    assert find_mirror([("debian.sources", STANZAS)]) == Mirror(
        uri="mirror:/one", keyring="/keys/debian-archive-keyring.gpg"
    )


@pytest.mark.parametrize(
    ("line", "mirror"),
    [
        pytest.param("deb mirror:/debian trixie main", Mirror(uri="mirror:/debian"), id="plain"),
        pytest.param("deb [arch=amd64] mirror:/debian sid contrib main # all", Mirror(uri="mirror:/debian"), id="arch"),
        pytest.param(
            "deb [signed-by=/k.gpg] mirror:/d stable main", Mirror(uri="mirror:/d", keyring="/k.gpg"), id="key"
        ),
    ],
)
def test_a_one_line_entry_is_read(line: str, mirror: Mirror) -> None:
    assert find_mirror([("sources.list", f"# ours\n{line}\n")]) == mirror


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("a.list", "# deb mirror:/debian trixie main", id="comment"),
        pytest.param("a.list", "deb-src mirror:/debian trixie main", id="source-packages"),
        pytest.param("a.list", "deb mirror:/tools nodistro main", id="another-distribution"),
        pytest.param("a.list", "deb mirror:/tools bookworm stable", id="without-main"),
        pytest.param("a.sources", STANZAS.replace("Types: deb deb-src", "Enabled: no\nTypes: deb"), id="disabled"),
        pytest.param("a.sources", "Types: deb\nSuites: bookworm\nComponents: main\n", id="without-address"),
        pytest.param("a.sources", "what\nis: this", id="noise"),
        pytest.param("a.list", "", id="empty"),
    ],
)
def test_what_is_no_release_of_debian_does_not_count(name: str, text: str) -> None:
    assert find_mirror([(name, text)]) is None


def test_the_entry_that_debian_signs_goes_first() -> None:
    foreign = ("a.list", "deb [signed-by=/other.gpg] mirror:/other bookworm main")
    assert find_mirror([foreign, ("debian.sources", STANZAS)]) == Mirror(
        uri="mirror:/one", keyring="/keys/debian-archive-keyring.gpg"
    )


def test_a_key_written_into_the_entry_is_no_path() -> None:
    text = STANZAS.replace("/keys/debian-archive-keyring.gpg", "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==")
    assert find_mirror([("debian.sources", text)]) == Mirror(uri="mirror:/one", keyring=KEYRING)
