"""The operations that give the pages of the console as JSON, from the types that answer them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from server.web.openapi.operations import answer, operation, parameter, problems, ref


class Twin(NamedTuple):
    """The JSON of a page: its path as Flask writes it, the operation's name and summary, its query and its answer.

    `parts` describes the parts of the path.
    """

    path: str
    name: str
    summary: str
    query: type[msgspec.Struct]
    answer: type[msgspec.Struct]
    parts: tuple[tuple[str, str], ...] = ()


def paths_of(twins: Sequence[Twin]) -> dict[str, Any]:
    """The operations of these twins, by path."""
    return {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", twin.path): {"get": _operation(twin)} for twin in twins}


def _operation(twin: Twin) -> dict[str, Any]:
    described = inspect.cleandoc(twin.answer.__doc__ or twin.summary)
    parts = [parameter("path", name, words, {"type": "string"}, required=True) for name, words in twin.parts]
    return operation(
        twin.name,
        "console",
        twin.summary,
        {
            "200": answer(described, ref(twin.answer.__name__)),
            **problems(400, 401, 403, 404, 410, 422, 500, 503),
        },
        parameters=[*parts, *_parameters(twin.query)],
    )


def _parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """The fields of a query, with their schemas. Absent and null are one in a query."""
    schema = msgspec.json.schema(query)
    [defined] = [each for name, each in schema["$defs"].items() if name == query.__name__]
    return [
        parameter("query", name, str(_without_null(each).pop("description", name)), _schema(each), required=is_needed)
        for name, each in defined["properties"].items()
        for is_needed in [name in defined["required"]]
    ]


def _schema(field: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _without_null(field).items() if key not in ("description", "default")}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    kinds = [each for each in field.get("anyOf", []) if each != {"type": "null"}]
    if len(kinds) == 1:
        return {**kinds[0], **{key: value for key, value in field.items() if key != "anyOf"}}
    return dict(field)
