"""Cameras of a site policy share what is equal, and nothing of the policy changes by that."""

from __future__ import annotations

import msgspec

from policies.site.equal_parts import with_equal_parts_shared
from policies.site.site_policy import SitePolicy, parse_site_policy

_TEXT = """
site = "yard"
targets = ["person", "vehicle"]
[[schedule]]
name = "night"
between = ["22:00", "05:00"]
[schedule.presence]
confirm_s = 9.0
[cameras.a.sectors.door]
polygon = [[0, 0], [1, 0], [1, 1]]
[cameras.b.sectors.door]
polygon = [[0, 0], [1, 0], [1, 1]]
[cameras.b.sectors.gate]
polygon = [[0, 0], [0.5, 0], [0.5, 0.5]]
presence = { confirm_s = 3.0 }
"""


def _read(text: str) -> SitePolicy:
    return with_equal_parts_shared(parse_site_policy(text))


def test_equal_rules_and_polygons_of_two_cameras_are_one_object_and_others_stay_apart() -> None:
    policy = _read(_TEXT)
    one, (same, other) = policy.cameras["a"].sectors[0], policy.cameras["b"].sectors
    assert (one.rules is same.rules, one.polygon is same.polygon, one.rules is policy.rules) == (True, True, True)
    assert other.rules.presence.confirm_s == 3.0
    assert policy.cameras["a"].scheduled[0].policy.rules is policy.cameras["b"].scheduled[0].policy.rules


def test_the_policy_is_written_as_before_to_the_last_digit_whether_it_is_parsed_or_decoded() -> None:
    parsed = parse_site_policy(_TEXT)
    written = msgspec.json.encode(parsed, order="deterministic")
    for policy in (parsed, msgspec.json.decode(written, type=SitePolicy)):
        assert with_equal_parts_shared(policy) == parsed
        assert msgspec.json.encode(with_equal_parts_shared(policy), order="deterministic") == written
