"""Lists of classes are read in the forms in which they come, and what is doubtful is refused with its line."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from server.catalogue.class_list import read_classes
from server.domain.errors import ConfigurationError

NAMES = ["person", "traffic light", "cat"]

FORMS = {
    "plain": "person\ntraffic light\ncat\n",
    "blank lines and comments": "# ours\n\nperson  \n\ttraffic light\n\ncat",
    "Coral": "0  person\n1  traffic light\n2  cat\n",
    "one space": "0 person\n1 traffic light\n2 cat\n",
    "from one": "1 person\n2 traffic light\n3 cat\n",
    "colon": "0: person\n1: traffic light\n2: cat\n",
    "tabs": "0\tperson\n1\ttraffic light\n2\tcat\n",
    "comma": "0,person\n1,traffic light\n2,cat\n",
    "not in order": "2 cat\n0 person\n1 traffic light\n",
    "quoted": "0: 'person'\n1: \"traffic light\"\n2: 'cat'\n",
    "dashes": "- person\n- traffic light\n- cat\n",
    "data.yaml": "path: ../coco\nnc: 3\nnames:\n  0: person # a comment\n  1: traffic light\n  2: cat\nurl: x\n",
    "yaml list": "names:\n- person\n- traffic light\n- cat\nnc: 3\n",
    "yaml in one line": "nc: 3\nnames: ['person', 'traffic light', 'cat']\n",
    "yaml numbers in one line": "names: {0: person, 1: traffic light, 2: cat}\n",
    "synsets": "n00000001 person\nn00000002 traffic light\nn00000003 cat\n",
    "JSON list": '["person", "traffic light", "cat"]',
    "JSON object": '{"0": "person", "1": "traffic light", "2": "cat"}',
    "ImageNet's object": '{"0": ["n1", "person"], "1": ["n2", "traffic light"], "2": ["n3", "cat"]}',
    "class to index": '{"cat": 2, "person": 0, "traffic light": 1}',
    "Python": "{0: 'person',\n 1: 'traffic light',\n 2: 'cat'}",
}


def written(text: str | bytes, tmp_path: Path) -> Path:
    file = tmp_path / "classes.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["", "mark"])
def test_every_form_gives_the_same_names(form: str, mark: bytes, tmp_path: Path) -> None:
    assert read_classes(written(mark + FORMS[form].replace("\n", "\r\n").encode(), tmp_path)) == NAMES


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0\n1\n2\n", ["0", "1", "2"]),
        ("0 0\n1 1\n", ["0", "1"]),
        ("4 door car\nbus\nvan\n", ["4 door car", "bus", "van"]),
        ('["18 wheeler", "3 wheeler"]', ["18 wheeler", "3 wheeler"]),
        ("1  person\n", ["person"]),
        ("caf\u00e9\nna\u00efve\n", ["caf\u00e9", "na\u00efve"]),
    ],
)
def test_a_number_may_be_a_name_or_part_of_one(text: str, names: list[str], tmp_path: Path) -> None:
    assert read_classes(written(text, tmp_path)) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\ncrane\nb\ncrane\n", "`crane` is in lines 2 and 4: a name stands for one class"),
        ('["crane", "crane"]', "`crane` is numbers 1 and 2"),
        ("0 a\n1 b\n0 c\n", "the number 0 is in lines 1 and 3"),
        ("0 a\n1 b\n3 c\n", "no line has the number 2: the network has an output for each, so name it (`2 unused 2`)"),
        ("18 wheeler\n19 wheeler\n", "they have to begin with 0 or 1"),
        ("0 a\n1 b\nc\n3 d\n", "line 3 (`c`) has no number, and most lines begin with one"),
        ("id,name\n0,person\n1,car\n", "line 1 (`id,name`) has no number"),
        ("", "it has no name"),
        ("# only\n", "it has no name"),
        ('{"0": "a", "2": "b"}', "1 is missing"),
        ('["a", null]', "number 2 is no name"),
        ('["a", ""]', "number 2 has no name"),
        ("a\nb\x07\n", "line 2 has no name, or signs that cannot be printed"),
        ("{not json", "is no list of classes"),
        ("<!DOCTYPE html><html></html>", "it is an HTML page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "it is a Git LFS pointer"),
        ("item {\n  id: 1\n  name: 'person'\n}\n", "it is a label map in protobuf's text form"),
        (b"person\ncaf\xe9\n", "line 2 has the byte 0xe9"),
    ],
)
def test_what_is_doubtful_is_refused_with_its_place(text: str | bytes, message: str, tmp_path: Path) -> None:
    file = written(text, tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        read_classes(file)
    assert str(file) in refused.value.detail
    assert message in refused.value.detail
