"""Runs the steps of a Dockerfile in a folder, for machines without a container engine.

`Build.target` runs what an engine would run for one target: the steps of its stage and of those that it copies from.
Each stage has a root folder. The paths of an image (`/opt`, `/etc`, `/var`, ...) lie below it, and the programs of the
base image are those of this machine. So these things differ from a real build:

- Steps that change users need a root of their own. They are not run, and listed in `Stage.left_out`.
- `pip install --requirement` runs as it is written, but finds what the requirements need in this Python's packages, and
  nothing else. It installs anew only what is missing or is not the version of the constraints.
- `install -o` changes an owner only where the tests run as root.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement

_PATH = re.compile(r"(?<![\w./-])/(?=(?:build|etc|opt|run|tmp|var|wheel)\b)(?!etc/ssl)")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_USERS = ("useradd", "groupadd", "adduser")


@dataclass
class Stage:
    """A stage with its root folder, and what its instructions have set so far. Paths are those of the image."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Build:
    """The stages of a Dockerfile, each run once, in `folder`. `context` is what an engine would be sent.

    All stages use the same path, `folder/root`, one after the other: a virtual environment holds its own path.
    """

    def __init__(self, dockerfile: Path, context: Path, folder: Path, arguments: Mapping[str, str]) -> None:
        self._folder = folder
        self._arguments = arguments
        self._stages: dict[str, Stage] = {}
        self._steps = dict(_stages(dockerfile))
        self._context = folder / "context"
        _copy_context(context, self._context)

    @property
    def root(self) -> Path:
        """Where the paths of the image lie while a stage is run, and those of the last target afterwards."""
        return self._folder / "root"

    def target(self, name: str) -> Stage:
        """The stage with this name, run after all that it needs."""
        return self._enter(self._run(name))

    def placed(self, text: str) -> str:
        """The text with the image's paths below the root."""
        return _PATH.sub(f"{self.root}/", text)

    def _run(self, name: str) -> Stage:
        if name not in self._stages:
            base, steps = self._steps[name]
            stage = self._begun(name, base)
            for needed in _needs(steps):
                self._run(needed)
            self._stages[name] = stage
            for instruction, value in steps:
                self._enter(stage)
                getattr(self, f"_do_{instruction.lower()}")(stage, value)
        return self._stages[name]

    def _begun(self, name: str, base: str) -> Stage:
        root = self._folder / "stages" / name
        if base in self._steps:
            before = self._run(base)
            shutil.copytree(before.root, root, symlinks=True, copy_function=os.link)
            settings = {key: value for key, value in vars(before).items() if key not in ("root", "arguments")}
            return Stage(
                root, **{key: value.copy() if hasattr(value, "copy") else value for key, value in settings.items()}
            )
        for place in ("tmp", "var", "etc", "opt", "run"):
            (root / place).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        return Stage(root)

    def _enter(self, stage: Stage) -> Stage:
        self.root.unlink(missing_ok=True)
        self.root.symlink_to(stage.root)
        return stage

    def _do_arg(self, stage: Stage, value: str) -> None:
        name, _, default = shlex.split(value)[0].partition("=")
        stage.arguments[name] = self._arguments.get(name, default)

    def _do_env(self, stage: Stage, value: str) -> None:
        pairs = (word.partition("=") for word in shlex.split(value))
        stage.environment |= {name: self._expanded(stage, text) for name, _, text in pairs}

    def _do_workdir(self, stage: Stage, value: str) -> None:
        stage.folder = value
        Path(self.placed(value)).mkdir(parents=True, exist_ok=True)

    def _do_shell(self, stage: Stage, value: str) -> None:
        stage.shell = json.loads(value)

    def _do_user(self, stage: Stage, value: str) -> None:
        stage.user = value

    def _do_expose(self, stage: Stage, value: str) -> None:
        """A note for readers of the image."""

    def _do_volume(self, stage: Stage, value: str) -> None:
        stage.volumes = json.loads(value)

    def _do_healthcheck(self, stage: Stage, value: str) -> None:
        stage.health = json.loads(value.partition(" CMD ")[2])

    def _do_entrypoint(self, stage: Stage, value: str) -> None:
        stage.entrypoint, stage.command = json.loads(value), []

    def _do_cmd(self, stage: Stage, value: str) -> None:
        stage.command = json.loads(value)

    def _do_copy(self, stage: Stage, value: str) -> None:
        flags, words = _split(value)
        source = self._stages[flags["from"]].root if "from" in flags else self._context
        copy = os.link if "from" in flags else shutil.copy2
        *names, target = words
        place = Path(self.placed(os.path.normpath(Path(stage.folder, target))))
        for name in names:
            found = source / name.lstrip("/")
            to = place / found.name if len(names) > 1 or target.endswith("/") else place
            to.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True, copy_function=copy)
            else:
                copy(found, to)
            if "chown" in flags and os.geteuid() == 0:
                user, group = map(int, flags["chown"].split(":"))
                for path in (to, *to.rglob("*")):
                    os.chown(path, user, group, follow_symlinks=False)

    def _do_run(self, stage: Stage, value: str) -> None:
        flags, _ = _split(value)
        command = re.sub(r"^(?:--\S+\s+)+", "", value)
        if command.startswith(_USERS):
            stage.left_out.append(command)
            return
        if os.geteuid() != 0:
            command = re.sub(r"\s-[og] \d+", "", command)
        with self._mounted(flags.get("mount", "").split()):
            if "--requirement" in command:
                self._share(stage, re.sub(r" > \S+ &&.*", "", command))
            self._shell_runs(stage, command)

    @contextmanager
    def _mounted(self, mounts: Sequence[str]) -> Iterator[None]:
        """The folders of other stages that a step sees. A cache is left out: the user's own cache of pip is used."""
        links = []
        for mount in mounts:
            options = dict(option.split("=", 1) for option in mount.split(","))
            if options["type"] == "bind":
                link = Path(self.placed(options["target"]))
                link.symlink_to(self._stages[options["from"]].root / options["source"].lstrip("/"))
                links.append(link)
        yield
        for link in links:
            link.unlink()

    def _shell_runs(self, stage: Stage, command: str) -> str:
        """What the command prints."""
        done = subprocess.run(
            [*stage.shell, self.placed(command)],
            cwd=self.placed(stage.folder),
            env=self.environment(stage) | stage.arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def _share(self, stage: Stage, prints_requirements: str) -> None:
        """Let the stage's virtual environment see what these requirements need of this Python's packages."""
        shared = self._folder / "shared"
        shared.mkdir(exist_ok=True)
        for found in _needed(self._shell_runs(stage, prints_requirements).splitlines()):
            _link(found, shared)
        [packages] = Path(self.placed("/opt/sectorwatch/lib")).glob("python*/site-packages")
        (packages / "shared.pth").write_text(f"{shared}\n")

    def environment(self, stage: Stage) -> dict[str, str]:
        """The variables of a process in the image, and where this machine's network and package index are."""
        ours = {name: value for name, value in os.environ.items() if re.match(r"(?i)pip_|.*_proxy$|ssl_|lang$", name)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return (
            {"PATH": path, "TMPDIR": self.placed("/tmp")}
            | ours
            | {
                name: f"{self.placed(value)}:{path}" if name == "PATH" else self.placed(value)
                for name, value in stage.environment.items()
            }
        )

    @staticmethod
    def _expanded(stage: Stage, text: str) -> str:
        known = stage.arguments | stage.environment
        return _VARIABLE.sub(lambda match: known.get(match[1], ""), text)


def _stages(dockerfile: Path) -> Iterator[tuple[str, tuple[str, list[tuple[str, str]]]]]:
    """Name of each stage -> the image or stage that it begins with, and its steps."""
    with dockerfile.open("rb") as content:
        structure = DockerfileParser(fileobj=content).structure
    steps: list[tuple[str, str]] = []
    for each in structure:
        instruction, value = each["instruction"], each["value"]
        if instruction == "FROM":
            base, _, name = value.split()
            steps = []
            yield name, (base, steps)
        elif instruction != "COMMENT":
            steps.append((instruction, value))


def _needs(steps: Sequence[tuple[str, str]]) -> list[str]:
    return [name for _, value in steps for name in re.findall(r"\bfrom=([\w-]+)", value)]


def _split(value: str) -> tuple[dict[str, str], list[str]]:
    """The flags of an instruction (several of a name joined by a blank), and its words."""
    flags: dict[str, str] = {}
    words = value.split()
    while words and words[0].startswith("--"):
        name, _, text = words.pop(0)[2:].partition("=")
        flags[name] = f"{flags[name]} {text}" if name in flags else text
    return flags, words


def _copy_context(checkout: Path, context: Path) -> None:
    """What `.dockerignore` lets through: after `*`, lines that begin with `!`, without those that begin with `**/`."""
    lines = (checkout / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    ignored = shutil.ignore_patterns(*(rule.removeprefix("**/") for rule in rules if rule.startswith("**/")))
    for rule in (rule for rule in rules if rule.startswith("!")):
        source, to = checkout / rule[1:], context / rule[1:]
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, ignore=ignored)
        else:
            shutil.copy(source, to)


def _needed(wanted: Sequence[str]) -> Iterator[Distribution]:
    """The distributions that these requirements need, as far as this Python has them, each once."""
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in wanted]
    while todo:
        requirement = todo.pop()
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:  # pip installs it
            continue
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            parts = [Requirement(line) for line in found.requires or ()]
            todo += [part for part in parts if part.marker is None or part.marker.evaluate({"extra": extra})]
        yield found


def _link(found: Distribution, shared: Path) -> None:
    """Make the distribution's files visible in the folder `shared`."""
    for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        link = shared / top
        if not link.exists():
            link.symlink_to(Path(str(found.locate_file(top))))
