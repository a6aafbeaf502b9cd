"""qemu and an Arm Python out of Debian's packages, without root and without touching the system's apt.

Rules kept here:
1. apt runs with its own state, lists and sources; the mirror is the system's (:mod:`.sources`), the signatures are
   checked by Debian's keys.
2. qemu is of trixie: bookworm's crashes onnxruntime 1.31 and LiteRT 2.3 (measured). Python is of bookworm: the oldest
   that the runtimes' wheels still want.
3. Packages are unpacked, never installed: none of their scripts runs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

from edgepe.errors import VerifyError
from edgepe.verify.emulator.folder import Package
from edgepe.verify.emulator.sources import KEYRING, Mirror, find_mirror

__all__ = ["PYTHON_PACKAGES", "QEMU_PACKAGE", "download_packages", "system_mirror", "unpack_packages"]

QEMU_PACKAGE, QEMU_SUITE, QEMU_FILE = "qemu-user", "trixie", "./usr/bin/qemu-aarch64"
PYTHON_SUITE = "bookworm"
PYTHON_PACKAGES = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
)
DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
TIMEOUT_S = 900.0

CONFIGURATION = """\
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{state}/sources";
APT::Architecture "{host}";
APT::Architectures {{ {architectures} }};
APT::Sandbox::User "{user}";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "3";
"""

SOURCES = """\
Types: deb
URIs: {uri}
Suites: {suite}
Components: main
Architectures: {architecture}
Signed-By: {keyring}
"""


def system_mirror() -> Mirror:
    """Return the mirror that this machine's apt uses.

    Raises:
        VerifyError: This machine has no apt, or its sources name no release of Debian.
    """
    missing = [program for program in ("apt-get", "dpkg-deb") if shutil.which(program) is None]
    if missing:
        raise VerifyError(
            "the emulated Arm is made of Debian's packages",
            expected="apt-get and dpkg-deb",
            got=f"no {' and no '.join(missing)}",
            next_step="make it on a Debian machine, copy the folder, and set EDGEPE_EMULATOR to it",
        )
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    texts = [(path.name, path.read_text(encoding="utf8")) for path in files if path.is_file()]
    mirror = find_mirror([(name, text) for name, text in texts if name.endswith((".list", ".sources"))])
    if mirror is None:
        raise VerifyError(
            "apt's sources on this machine name no release of Debian",
            expected="an entry with the component 'main' of a release, for example bookworm",
            got=", ".join(name for name, _ in texts) or "no sources",
            next_step=f"give one with --mirror URI (the package debian-archive-keyring brings {KEYRING})",
        )
    return mirror


def download_packages(mirror: Mirror, state: Path, into: Path) -> None:
    """Download the packages, checked against their signed lists; what is already there is kept.

    Args:
        mirror: Where from.
        state: apt's own folder.
        into: Where the ``.deb`` files go.

    Raises:
        VerifyError: apt cannot read the lists, or fetch a package.
    """
    host = DEBIAN_NAMES.get(platform.machine(), platform.machine())
    _configure(mirror, state, host)
    _apt(state, "update", "--error-on=any", cwd=state)
    wanted = [f"{QEMU_PACKAGE}:{host}/{QEMU_SUITE}", *(f"{name}:arm64/{PYTHON_SUITE}" for name in PYTHON_PACKAGES)]
    into.mkdir(parents=True, exist_ok=True)
    _apt(state, "download", *wanted, cwd=into)


def unpack_packages(downloads: Path, tree: Path) -> tuple[Package, ...]:
    """Unpack the packages: ``qemu-aarch64`` and ``root/``, and return what they were.

    Raises:
        VerifyError: A package is damaged, or qemu is not where it belongs.
    """
    (tree / "root").mkdir(parents=True)
    packages = []
    for path in sorted(downloads.glob("*.deb")):
        name, version, _ = path.stem.split("_")
        if name == QEMU_PACKAGE:
            _unpack_file(path, QEMU_FILE, tree / "qemu-aarch64")
        else:
            _call(["dpkg-deb", "--extract", str(path), "root"], what=f"unpacking {path.name}", cwd=tree)
        packages.append(Package.of(path, name=name, version=version.replace("%3a", ":")))
    return tuple(packages)


def _configure(mirror: Mirror, state: Path, host: str) -> None:
    for folder in ("lists/partial", "cache/archives/partial", "sources"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    text = CONFIGURATION.format(
        state=state,
        host=host,
        architectures=" ".join(f'"{name}";' for name in dict.fromkeys((host, "arm64"))),
        user="root" if os.geteuid() == 0 else "",
    )
    (state / "apt.conf").write_text(text, encoding="utf8")
    for suite, architecture in ((QEMU_SUITE, host), (PYTHON_SUITE, "arm64")):
        entry = SOURCES.format(uri=mirror.uri, suite=suite, architecture=architecture, keyring=mirror.keyring)
        (state / "sources" / f"{suite}.sources").write_text(entry, encoding="utf8")


def _apt(state: Path, *arguments: str, cwd: Path) -> None:
    environment = os.environ | {"APT_CONFIG": str(state / "apt.conf"), "LC_ALL": "C.UTF-8"}
    _call(["apt-get", "-qq", *arguments], what=f"apt-get {arguments[0]}", cwd=cwd, environment=environment)


def _call(command: list[str], *, what: str, cwd: Path, environment: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=TIMEOUT_S, check=True)  # noqa: S603 - the system's own tools, no shell
    except subprocess.TimeoutExpired as error:
        raise VerifyError(f"{what} did not end", expected=f"at most {TIMEOUT_S:g} s", got="killed") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise VerifyError(
            f"{what} failed",
            got=lines[0] if lines else f"exit code {error.returncode}",
            next_step="check network and disk and run it again: what was fetched is kept",
        ) from error


def _unpack_file(package: Path, name: str, to: Path) -> None:
    """Unpack one file of a package: all of qemu's would be half a gigabyte."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - the system's own tool, no shell
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                member = next((member for member in archive if member.name == name and member.isreg()), None)
                source = archive.extractfile(member) if member is not None else None
                if source is None:
                    raise VerifyError(f"{package.name} holds no emulator", expected=name, got="no such file")
                with to.open("wb") as file:
                    shutil.copyfileobj(source, file)
        except tarfile.TarError as error:
            raise VerifyError(f"{package.name} is damaged", got=str(error), next_step="run it again") from error
        finally:
            process.kill()
    to.chmod(0o755)
