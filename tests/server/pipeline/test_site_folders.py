"""What a server says of its folder of site policies, and how little of it a burst reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.pipeline import site_files, site_policies
from server.pipeline.site_policies import Sites
from tests.server.pipeline.test_site_policies import write


def test_folders_whose_rules_are_the_same_are_the_same_source_whatever_their_files_are_called(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, f"{name}.toml", f'# the file of {name}\nsite = "yard"')
    one, other = Sites(tmp_path / "one"), Sites(tmp_path / "other")
    assert (one.source().place, other.source().place) == (str(tmp_path / "one"), str(tmp_path / "other"))
    assert one.source().digest == other.source().digest
    write(tmp_path / "one", "one.toml", 'site = "yard"\ntargets = ["animal"]')
    assert one.source().digest != other.source().digest
    write(tmp_path / "other", "one.toml", 'site = "yard"\ntargets = ["animal"]')
    (tmp_path / "other" / "other.toml").unlink()
    assert one.source().digest == other.source().digest
    write(tmp_path / "other", "dock.toml", 'site = "dock"')
    assert one.source().digest != other.source().digest


def test_a_burst_looks_at_its_site_s_file_alone_and_a_changed_folder_is_not_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, reads = list[Path](), list[str]()

    def counted_look(folder: Path) -> site_files.Look:
        looks.append(folder)
        return site_files.look_at(folder)

    def counted_read(file: Path) -> site_files.Edition | site_files.Fault:
        reads.append(file.name)
        return site_files.read_edition(file)

    monkeypatch.setattr(site_policies, "look_at", counted_look)
    monkeypatch.setattr(site_policies, "read_edition", counted_read)
    for name in ("dock", "gate", "yard"):
        write(tmp_path, f"{name}.toml", f'site = "{name}"')
    sites = Sites(tmp_path)
    for _ in range(5):
        assert [sites.policy(name).site for name in ("dock", "gate", "yard")] == ["dock", "gate", "yard"]
        assert sites.file("gate") == tmp_path / "gate.toml"
    assert (len(looks), reads) == (1, ["dock.toml", "gate.toml", "yard.toml"])
    write(tmp_path, "gate.toml", 'site = "gate"\ntargets = ["vehicle"]')
    write(tmp_path, "lawn.toml", 'site = "lawn"')
    assert sites.policy("dock").rules.targets == ("person",)
    assert sites.policy("gate").rules.targets == ("vehicle",)
    assert (len(looks), sites.sites()) == (2, ("dock", "gate", "lawn", "yard"))
    assert reads[3:] == ["gate.toml", "lawn.toml"]
