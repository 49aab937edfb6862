"""The README names every key of the table with its default, and its examples are what is sent."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from server.settings.channels import NotifySettings

README = Path(__file__).parents[4] / "server/delivery/notify/README.md"
EXAMPLE = Path(__file__).parents[4] / "deploy/server.example.toml"


@pytest.mark.parametrize("field", msgspec.structs.fields(NotifySettings), ids=lambda field: field.name)
def test_every_key_is_listed_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    row = re.search(rf"^\| `{field.name}` \|([^|]*)\|", README.read_text(encoding="utf-8"), re.M)
    assert row is not None
    shown = row[1].strip(" `")
    if field.required:
        assert shown == ""
    else:
        assert msgspec.json.decode(shown) == msgspec.json.decode(msgspec.json.encode(field.default))


def test_no_key_is_listed_that_does_not_exist() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", README.read_text(encoding="utf-8"), re.M)
    assert set(listed) == {field.name for field in msgspec.structs.fields(NotifySettings)}


def test_the_commented_example_of_the_settings_file_can_be_used() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    block = text[text.index("# [channels.phones]") :].partition("\n\n")[0]
    table = tomllib.loads(re.sub(r"^# ", "", block, flags=re.M))["channels"]["phones"]
    assert isinstance(msgspec.convert({k: v for k, v in table.items() if k != "kind"}, NotifySettings), NotifySettings)
    assert table["kind"] == "notify"
