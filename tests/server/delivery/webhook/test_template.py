"""A template writes bodies; its faults are named with their line, and whatever it says, its work is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.delivery.webhook.template import MOST_CHARACTERS, MOST_STEPS, Template, TemplateFault
from server.domain.errors import ConfigurationError
from tests.server.delivery.webhook.parts import announced, channel
from tests.server.delivery.webhook.receiver import Receiver

EVENT: dict[str, Any] = {"kind": "entered", "score": 0.9, "votes": {"a": "for", "b": "against"}, "line": None}
TEN = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
LONG = "{% set a = 'xxxxxxxx' %}" + "{% set a = a ~ a %}" * 14
WIDE = "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ event.kind|upper }} {{ event.score|round(2) }}", "ENTERED 0.9"),
        ('{"votes": {{ event.votes|tojson }}}', '{"votes": {"a":"for","b":"against"}}'),
        (
            "{% for model, vote in event.votes|items %}{{ loop.index }}{{ model }}={{ vote }} {% endfor %}",
            "1a=for 2b=against ",
        ),
        ("{% if event.line is none %}no line{% else %}{{ event.line }}{% endif %}", "no line"),
        ("{{ event.line|default('-', true) }}{{ event.nope|default('?') }}", "-?"),
        ("{{ 'a' ~ 1 ~ event.kind }}{{ 'x' + 'y' }}{{ 2 * 3 }}", "a1enteredxy6"),
        ("{{ event.kind|replace('e', '--') }}{{ [3, 1]|sort|join('+') }}", "--nt--r--d1+3"),
        ("{{ event.kind[:3] }}{% raw %}{{ x }}{% endraw %}{# remark #}\n", "ent{{ x }}\n"),
        ('<b>{{ "<&>"|e }}</b>', "<b>&lt;&amp;&gt;</b>"),
    ],
)
def test_a_template_prints_asks_and_repeats(text: str, result: str) -> None:
    assert Template(text).render({"event": EVENT}) == result


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("\n\n{% if %}", 3, "Expected an expression"),
        ("a\n{{ event.kind", 2, "unexpected end of template"),
        ("\n{{ event.kind.upper() }}", 2, "calls are not available: use filters"),
        ("{{ range(9) }}", 1, "calls are not available"),
        ("\n{{ 'x'|center(1000000000) }}", 2, "No filter named 'center'"),
        ("{{ 'x'|attr('__class__') }}", 1, "No filter named 'attr'"),
        ("{{ 9 ** 9 ** 9 }}", 1, "`pow` is not available"),
        ("{% macro f() %}{% endmacro %}", 1, "`macro` is not available"),
        ("{% include '/etc/passwd' %}", 1, "`include` is not available"),
        ("{% import 'os' as os %}", 1, "`import` is not available"),
        ("{% set a %}x{% endset %}", 1, "`assignblock` is not available"),
        ("{% for a in [1] recursive %}{% endfor %}", 1, "recursive loops are not available"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", None, "nested too deeply"),
    ],
)
def test_what_is_no_part_of_the_language_is_refused_with_its_line(text: str, line: int | None, what: str) -> None:
    with pytest.raises(TemplateFault, match=what) as error:
        Template(text)
    assert error.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("\n{{ event.nope }}", 2, "has no attribute 'nope'"),
        ("{{ nope|tojson }}", 1, "'nope' is undefined"),
        ("{{ nope ~ 1 }}", 1, "'nope' is undefined"),
        ("{{ nope + 1 }}", 1, "'nope' is undefined"),
        ("\n\n{{ event.__class__ }}", 3, "access to attribute '__class__' of 'dict' object is unsafe"),
        ("{{ event.kind['__class__'].__mro__ }}", 1, "is unsafe"),
        ("{{ event.votes }}", 1, "a list or a mapping is printed with `|tojson` or `|join`"),
        ("{{ event.items }}", 1, "a list or a mapping is printed"),
        ("{{ 'a' + 1 }}", 1, "`+` is for numbers here"),
        ("{{ 1 / 0 }}", 1, "division by zero"),
        ("{{ 'x' * 1000000000 }}", 1, "`[*]` is for numbers here"),
        ("{{ [1] * 1000000000 }}", 1, "`[*]` is for numbers here"),
        ("{{ '%1000000000d' % 1 }}", 1, "`%` is for numbers here"),
        ("{{ 99999999999 * 99999999999 }}", 1, "a number is larger than"),
        ("\n" + f"{{% for i in {TEN} %}}" * 8 + "{% endfor %}" * 8, 2, f"more than {MOST_STEPS} rounds"),
        (LONG + "{% set a = a ~ a ~ a %}", 1, f"more than {MOST_CHARACTERS} characters"),
        (LONG + "{% set a = a + a %}{{ a + a }}", 1, "more than"),
        (LONG + "{{ a }}{{ a }}{{ a }}", None, "more than"),
        (LONG + "{{ a|replace('', a) }}", 1, "more than"),
        (LONG + "{{ [a, a, a]|join }}", 1, "more than"),
        (LONG + "{{ [1, 2, 3]|join(a) }}", 1, "more than"),
        (LONG + "{{ [a, a, a]|tojson }}", 1, "more than"),
        (WIDE + "\n{{ a|tojson }}", 2, "more than"),
        (WIDE + "{{ a|join }}", 1, "a list or a mapping is printed"),
        (WIDE + "{{ a|upper }}", 1, "a list or a mapping is printed"),
    ],
)
def test_a_template_ends_soon_whatever_it_says(text: str, line: int | None, what: str) -> None:
    template = Template(text)
    with pytest.raises(TemplateFault, match=what.replace("+", "[+]")) as error:
        template.render({"event": EVENT})
    assert error.value.line == line


def test_a_fault_of_a_template_is_named_at_the_start_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "body.jinja"
    for text, what in {
        "{\n{% if %}": "line 2: Expected an expression",
        '{\n"a":\n{{ event.sekt0r|tojson }}}': "line 3: 'dict object' has no attribute 'sekt0r'",
        '{"a": "{{ event.votes|tojson }}"}': "what it makes of `presence_started` is not JSON",
    }.items():
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationError) as error:
            channel("https://example.org/", body="template", template_file=str(file))
        assert str(error.value).startswith(f"channel `hook`: {file}")
        assert what in str(error.value)
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"body.jinja: No such file"):
        channel("https://example.org/", body="template", template_file=str(file))


def test_a_template_is_tried_with_what_the_channel_sends(receiver: Receiver) -> None:
    text = '{"track": {{ event.track|upper|tojson }}, "from": {{ event.site|tojson }}}'
    with pytest.raises(ConfigurationError, match="has no attribute 'track'"):
        channel(receiver.url, body="template", template=text)
    hook = channel(receiver.url, body="template", template=text, notices=False)
    hook.send(announced(site='the "yard"'))
    assert receiver.received[0].json == {"track": "C72E4DC906A1", "from": 'the "yard"'}


def test_a_template_that_leaves_nothing_sends_nothing(receiver: Receiver) -> None:
    text = "{% if event.kind == 'left' %}{{ line }}{% endif %}"
    hook = channel(receiver.url, body="template", template=text, content_type="text/plain")
    hook.send(announced("entered"))
    hook.send(announced("left"))
    assert [each.body.split()[1] for each in receiver.received] == [b"left"]
    assert receiver.received[0].headers["content-type"] == "text/plain"
    assert "leaves nothing of the test message" in hook.test()
