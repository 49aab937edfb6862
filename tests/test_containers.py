"""The images: the Dockerfile passes its linter, and what its steps build runs as another user on a read-only tree.

No container engine is needed: `tests.dockerfile_steps` says what differs from a real build.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.dockerfile_steps import Build, Stage
from tests.documentation import ROOT
from tests.server.doors import free_port
from tests.server.launched import PATIENCE_S
from tests.server.web_client import jpeg

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
USER = 10001
PAUSE_S = 2.0
"""Between two checks of health, each of which starts a Python."""


def hadolint(text: str) -> str:
    linter = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([linter, "-"], input=text, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    assert hadolint(DOCKERFILE.read_text(encoding="utf-8")) == ""


def test_the_linter_notices_a_fault() -> None:
    assert "DL3002" in hadolint("FROM python:3.11\nUSER root\n")


def test_no_image_ends_with_a_compiler_or_as_root() -> None:
    steps = DOCKERFILE.read_text(encoding="utf-8").partition("AS base\n")[2]
    assert re.findall(r"apt-get|apk |gcc|build-essential", steps) == []
    assert re.findall(r"^USER (.*)$", steps, re.M) == [f"{USER}:{USER}"] * 2


@pytest.fixture(scope="module")
def built() -> Iterator[Build]:
    """In a folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        Path(name).chmod(0o755)
        yield Build(DOCKERFILE, ROOT, Path(name).resolve(), {})


class Container:
    """The image's command, started as its user, in its environment with `changes`. Writes only to `writable`."""

    def __init__(self, build: Build, stage: Stage, writable: Sequence[str], **changes: str) -> None:
        self.root = stage.root
        self._environment = build.environment(stage) | changes
        self._health = [build.placed(word) for word in stage.health]
        read_only(stage.root, [Path(build.placed(path)) for path in writable])
        self.before = files(stage.root)
        self.process = subprocess.Popen(
            [*unprivileged(), *(build.placed(word) for word in (*stage.entrypoint, *stage.command))],
            cwd=build.placed(stage.folder),
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def is_healthy(self) -> bool:
        return subprocess.run(self._health, env=self._environment, capture_output=True, check=False).returncode == 0

    def wait_until_healthy(self) -> None:
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / PAUSE_S)):
            if self.is_healthy() or self.process.poll() is not None:
                break
            pause.wait(PAUSE_S)
        if not self.is_healthy():
            self.process.kill()
            pytest.fail(f"never healthy:\n{self.process.communicate()[0]}")

    def stopped(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def written(self) -> set[str]:
        """The files that are new or changed since the start, below the root."""
        after = files(self.root)
        return {name for name, stamp in after.items() if self.before.get(name) != stamp}


def is_within_reach() -> bool:
    """Whether another user can read this Python and its packages."""
    places = [Path(place).resolve() for place in (sys.prefix, sys.base_prefix)]
    return all(folder.stat().st_mode & 1 for place in places for folder in (place, *place.parents))


def unprivileged() -> list[str]:
    """What starts a command as the image's user; where that one cannot read this Python, as root without its rights."""
    if os.geteuid() != 0:
        return []
    as_user = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if is_within_reach() else []
    return ["setpriv", *as_user, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


def read_only(root: Path, writable: Sequence[Path]) -> None:
    """Take the right to write from all but `writable`."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        if os.geteuid() == 0:
            owner = USER if is_within_reach() else 0
            os.chown(path, owner, owner)


def files(root: Path) -> dict[str, tuple[float, int]]:
    stats = {path: path.lstat() for path in root.rglob("*") if not path.is_dir()}
    return {str(path.relative_to(root)): (found.st_mtime, found.st_size) for path, found in stats.items()}


def test_the_image_of_the_server_serves_as_another_user_on_a_read_only_root_and_stops_in_order(built: Build) -> None:
    stage = built.target("server")
    assert [step.split()[0] for step in stage.left_out] == ["useradd"]
    assert stage.user == f"{USER}:{USER}"
    writable = [*stage.volumes, "/var/cache/sectorwatch", "/tmp"]
    port, admin_port = free_port(), free_port()
    server = Container(
        built,
        stage,
        writable,
        SECTORWATCH_MODELS="hog-people,frame-change",  # which need no weights
        SECTORWATCH_PORT=str(port),
        SECTORWATCH_ADMIN_PORT=str(admin_port),
        HTTP_PROXY="http://127.0.0.1:1",  # nothing is there; the check must not ask it
    )
    assert not server.is_healthy()
    server.wait_until_healthy()
    assert server.stopped() == 0
    assert {name.split("/")[0] + "/" + name.split("/")[1] for name in server.written()} == {"var/lib"}


def test_the_image_of_the_agent_takes_pictures_as_another_user_on_a_read_only_root_and_stops_in_order(
    built: Build,
) -> None:
    stage = built.target("agent")
    root = stage.root
    pictures = root / "var" / "pictures"
    pictures.mkdir()
    (pictures / "20261122T070000.000Z.jpg").write_bytes(jpeg(9))
    (root / "etc" / "sectorwatch" / "agent.toml").write_text(
        f'site = "north-yard"\n[server]\nurl = "http://127.0.0.1:{free_port()}"\n'
        f'[[cameras]]\nname = "gate"\nfolder = "{pictures}"\nat_end = "wait"\n'
    )
    assert not any((root / "opt" / "sectorwatch" / "lib").rglob("torch"))
    agent = Container(built, stage, [*stage.volumes, "/run/camera-agent", "/tmp"])
    assert not agent.is_healthy()
    agent.wait_until_healthy()
    assert agent.stopped() == 0
    assert {"/".join(name.split("/")[:2]) for name in agent.written()} == {"var/lib", "run/camera-agent"}
