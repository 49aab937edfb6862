"""A file that can run code is adopted only if the user trusts it, and can then change nothing and take little."""

from __future__ import annotations

import ctypes
import logging
import socket
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from server.catalogue import card_named, locate, parse_card, trust_fault
from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.adoption import Limits, adopt
from tests.server.ensemble.others import CLASSES, SOURCE, folder_of, network

MIB = 1024 * 1024
LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1)
"""What this kernel can forbid: 3, all writing, from Linux 6.2 on; 4, TCP, from 6.7 on. These tests need 3."""


class Runs:
    """Runs Python code where it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = textwrap.dedent(code)

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code, {})


def pickled(folder: Path, code: str) -> Path:
    made = nn.Sequential(*network())  # type: ignore[arg-type]
    made.mark = Runs(code)  # type: ignore[assignment]
    torch.save(made, folder / "net.pth")
    return folder / "net.pth"


def scripted(folder: Path, made: nn.Module) -> Path:
    torch.jit.script(made).save(str(folder / "net.pt"))
    return folder / "net.pt"


def refusal(file: Path, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        adopt(file, CLASSES, tmp_path / "models", trusted=True, **options)
    assert not (tmp_path / "models").exists()
    assert "\n" not in error.value.detail
    return error.value.detail


class Writing(nn.Module):
    """Writes into a file of its choice through memory, without one write of the operating system."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.inner = network()

    def forward(self, rows: Tensor) -> Tensor:
        written = torch.from_file(self.path, True, 16, dtype=torch.uint8).fill_(7)
        return self.inner(rows) + written.float().sum()  # type: ignore[no-any-return]


class WritingWhenRead(nn.Module):
    """Writes before anybody can see of which operators it is made."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.total = 0

    @torch.jit.export
    def __getstate__(self) -> tuple[str, int, bool]:
        return self.path, self.total, False

    @torch.jit.export
    def __setstate__(self, state: tuple[str, int, bool]) -> None:
        self.path = state[0]
        self.total = int(torch.from_file(state[0], True, 16, dtype=torch.uint8).fill_(7).sum())
        self.training = state[2]

    def forward(self, rows: Tensor) -> Tensor:
        return rows.mean((1, 2, 3))[:, None] * torch.ones(5)


@pytest.mark.parametrize(
    ("kind", "message"), [(Writing, "files of its choice"), (WritingWhenRead, "Permission denied")]
)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_scripted_network_writes_no_file_of_its_choice(
    kind: type[nn.Module], message: str, tmp_path: Path, *, is_there: bool
) -> None:
    target = tmp_path / "of-the-user"
    file = scripted(tmp_path, kind(str(target)))
    if is_there:
        target.write_bytes(b"0123456789abcdef")
    else:
        target.unlink(missing_ok=True)
    assert message in refusal(file, tmp_path)
    assert (target.read_bytes() == b"0123456789abcdef") if is_there else not target.exists()


def test_a_scripted_network_with_operators_for_files_is_named_also_when_it_is_served(tmp_path: Path) -> None:
    made = Writing(str(tmp_path / "of-the-user"))
    assert "net.pt reads or writes files of its choice (aten::from_file): it is refused" in refusal(
        scripted(tmp_path, made), tmp_path
    )
    folder = folder_of(tmp_path / "served", "torchscript", network(), "leaves")
    scripted(folder, made)
    with pytest.raises(ConfigurationError, match="reads or writes files of its choice"):
        load_ensemble(["leaves"], folders=[tmp_path / "served"], verify_weights=False)
    assert not (tmp_path / "of-the-user").exists()


def test_a_pickled_module_makes_changes_shortens_and_removes_no_file_and_reaches_no_port(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"as it was")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        code = f"""
            import mmap, os, pathlib, socket
            kept = pathlib.Path({str(kept)!r})
            done = []
            def through_memory():
                with kept.open("r+b") as opened:
                    mmap.mmap(opened.fileno(), 9)[:] = b"different"
            tries = dict(
                made=lambda: (kept.parent / "made").touch(),
                folder=lambda: (kept.parent / "folder").mkdir(),
                linked=lambda: (kept.parent / "linked").symlink_to("/"),
                home=lambda: pathlib.Path({str(Path.home())!r}, ".made-by-a-network").write_text("x"),
                temporary=lambda: pathlib.Path("/tmp/.made-by-a-network").write_text("x"),
                appended=lambda: kept.open("ab").write(b"more"),
                shortened=lambda: os.truncate(kept, 0),
                removed=kept.unlink,
                renamed=lambda: kept.rename(kept.parent / "renamed"),
                through_memory=through_memory,
                ended=lambda: os.kill(os.getppid(), 0),
                own=lambda: pathlib.Path("own").write_bytes(b"not empty"),
            )
            if {LANDLOCK >= 4}:
                tries["connected"] = lambda: socket.create_connection(("127.0.0.1", {listening.getsockname()[1]}))
            for name, attempt in tries.items():
                try:
                    attempt()
                except OSError:
                    continue
                done.append(name)
            names = [name for name in os.environ if name.startswith("SECTORWATCH")]
            raise RuntimeError(f"could {{done}} in {{os.listdir()}} with {{names}} ")
        """
        detail = refusal(pickled(tmp_path, code), tmp_path)
    assert "RuntimeError: could [] in ['own'] with []" in detail
    assert kept.read_bytes() == b"as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "net.pth"]


def test_what_ran_is_ended_with_all_that_it_started_and_leaves_no_folder(tmp_path: Path) -> None:
    file = pickled(
        tmp_path,
        """
            import os, subprocess, sys
            child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
            raise RuntimeError(f"<{os.getpid()} {child.pid} {os.getcwd()}>")
        """,
    )
    own, child, folder = refusal(file, tmp_path).partition("<")[2].partition(">")[0].split()
    assert not Path(folder).exists()
    assert not any(is_running(int(process)) for process in (own, child))


def is_running(process: int, within_s: float = 10.0) -> bool:
    """Whether the process still runs after a while; a zombie does not."""
    until_s, pause = time.monotonic() + within_s, threading.Event()
    while time.monotonic() < until_s:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        pause.wait(0.01)
    return True


class Growing(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        kept = [rows]
        while len(kept) > 0:
            kept.append(torch.ones(16, 1024, 1024) + kept[-1].sum())
        return kept[-1]


class Greedy(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return torch.ones(1 << 40) + rows.sum()


class Endless(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        while bool(rows.isfinite().all()):
            rows = rows * 1.0
        return rows


@pytest.mark.parametrize("made", [Growing(), Greedy()])
def test_a_network_that_asks_for_memory_without_end_is_refused_with_what_it_gets(
    made: nn.Module, tmp_path: Path
) -> None:
    detail = refusal(scripted(tmp_path, made), tmp_path, limits=Limits(memory_bytes=1024 * MIB))
    assert f"{tmp_path}/net.pt asks for more than the 1.0 GiB of memory that a network gets here" in detail


def test_a_file_that_fills_the_memory_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = pickled(tmp_path, "kept = []\nwhile True: kept.append(bytearray(1 << 26))")
    detail = refusal(file, tmp_path, limits=Limits(memory_bytes=1024 * MIB))
    assert "asks for more than the 1.0 GiB of memory" in detail


def test_a_network_that_does_not_end_is_ended(tmp_path: Path) -> None:
    detail = refusal(scripted(tmp_path, Endless()), tmp_path, limits=Limits(within_s=8))
    assert "net.pt is not examined within 8 s: its network does not end, or it is too slow" in detail


def test_a_file_that_ends_the_process_or_answers_for_it_is_refused(tmp_path: Path) -> None:
    assert "ends the process that reads it (SIGSEGV)" in refusal(
        pickled(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"), tmp_path
    )
    answers = """
        import os
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b'{"result": {"type": "Seen", "format": "\\\\u001b[2J"}}\\n')
            except OSError:
                pass
        os._exit(0)
    """
    assert "ended with 0, without an answer" in refusal(pickled(tmp_path, answers), tmp_path)


def test_weights_as_safetensors_with_an_installed_factory_need_no_trust(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    save_file(squeezenet1_1().state_dict(), tmp_path / "squeezed.safetensors")
    adopted = adopt(
        tmp_path / "squeezed.safetensors",
        [f"class {number}" for number in range(1000)],
        tmp_path / "models",
        factory="torchvision.models:squeezenet1_1",
        output="logits",
    )
    assert (adopted.code, adopted.card.trusted) == ("", None)
    assert trust_fault(adopted.card, locate(adopted.card, tmp_path)) == ""


@pytest.mark.parametrize("place", ["models/leaves/net.py", "models/leaves/net/__init__.py", "netbeside.py"])
def test_a_factory_that_travels_with_the_weights_needs_trust(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    save_file(network().state_dict(), tmp_path / "leaves.safetensors")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n{SOURCE}")
    factory = "netbeside:build" if place == "netbeside.py" else "net:build"
    with pytest.raises(ConfigurationError, match=r"comes with the code of its factory \(.*\): this can run code"):
        adopt(tmp_path / "leaves.safetensors", CLASSES, tmp_path / "models", factory=factory)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "models" / "leaves" / "card.toml").exists()


def test_the_card_says_that_the_user_trusts_the_file_and_loading_obeys_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adopted = adopt(scripted(tmp_path, network()), CLASSES, tmp_path / "models", trusted=True)
    assert adopted.code == "is a TorchScript network"
    assert card_named("net", [tmp_path / "models"]).trusted
    text = adopted.path.read_text()
    with caplog.at_level(logging.WARNING):
        load_ensemble(["net"], folders=[tmp_path / "models"])
    assert "trusted" not in caplog.text
    adopted.path.write_text(text.replace("trusted = true", "trusted = false"))
    with pytest.raises(ConfigurationError, match=r"net is a TorchScript network.* its card says `trusted = false`"):
        load_ensemble(["net"], folders=[tmp_path / "models"])


@pytest.mark.parametrize("form", ["torchscript", "export", "safetensors"])
def test_a_card_from_before_that_says_nothing_is_served_with_a_warning_under_the_same_name(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path, form, network(), "leaves")
    card = folder / "card.toml"
    before = load_ensemble(["leaves"], folders=[tmp_path]).ensemble_info.ensemble
    [record] = [record for record in caplog.records if record.message == "model is not trusted yet"]
    assert f"write `trusted = true` into {card}" in record.__dict__["detail"]
    caplog.clear()
    card.write_text("trusted = true\n" + card.read_text())
    assert load_ensemble(["leaves"], folders=[tmp_path]).ensemble_info.ensemble == before
    assert not caplog.records
    assert parse_card(card.read_text(), card).trusted
