"""Site policies: what may be written, what is inherited, and how a mistake is shown."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from policies.observation import EnsembleInfo
from policies.sensitivity import RULES, Sensitivity
from policies.site.site_policy import InvalidPolicy, digest_of_stored, parse_site_policy
from tests.policies.stories import CHANGE, CLASSIFIER, DETECTOR, policy

SITES = Path(__file__).parents[3] / "deploy" / "sites"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sit = "a"', "line 1: sit: unknown key; did you mean `site`?"),
        (
            'site = "a"\n[presence]\nconfrim_s = 1',
            "line 3: presence.confrim_s: unknown key; did you mean `confirm_s`?",
        ),
        ('site = "a"\n[presence]\nclear_s = -1', "line 3: presence.clear_s: expected `float` >= 0.0"),
        ('site = "a"\ntargets = ["persn"]', "line 2: targets: unknown target `persn`; did you mean `person`?"),
        (
            'site = "a"\n\n[cameras.gate.sectors.g]\npolygon = [[0, 0], [1, 0]]',
            "line 4: cameras.gate.sectors.g.polygon: a sector needs at least three points, this one has 2",
        ),
        (
            'site = "a"\n[cameras.gate.sectors.g]\ncoordinates = "0,0,2,0,1,1"',
            "line 3: cameras.gate.sectors.g.coordinates: the point [2.0, 0.0] lies outside the frame; "
            "coordinates are fractions in 0..1",
        ),
        (
            'site = "a"\n[sensitivity]\nrule = "any"\nk = 2',
            'line 4: sensitivity.k: k only means something with rule = "at_least"',
        ),
        (
            'site = "a"\n[sensitivity]\nrule = "any"\nweights = {a = 1}',
            'line 4: sensitivity.weights: weights only mean something with rule = "weighted" or "evidence"',
        ),
        (
            'site = "a"\n[by_target.vehicel]\nmin_score = { "*" = 0.9 }',
            "line 2: by_target.vehicel: unknown target `vehicel`; did you mean `vehicle`?",
        ),
        (
            'site = "a"\n[by_target.vehicle.sensitivity]\nrule = "any"\nk = 2',
            'line 4: by_target.vehicle.sensitivity.k: k only means something with rule = "at_least"',
        ),
        (
            'site = "a"\n[by_target.vehicle]\nsensitivity.missing = "abstain"\n[sensitivity]\nrule = "some"',
            f"line 5: sensitivity.rule: unknown word `some`; known here: {', '.join(RULES)}",
        ),
        (
            'site = "a"\n[by_target.vehicle]\nsensitivty = { rule = "any" }',
            "line 3: by_target.vehicle.sensitivty: unknown key; did you mean `sensitivity`?",
        ),
        (
            'site = "a"\n[movement]\nsights = 5\nof = 3',
            "line 3: movement.min_hits: is more than `window_frames`, the frames that are looked at",
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\ntargets = ["person"]',
            "line 2: cameras.g.sectors.s: give either polygon = [[x, y], ...] or Frigate's "
            'coordinates = "x,y,x,y,..."',
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\npolygon = [[0, 0, 0], [1, 0, 0], [1, 1, 1]]',
            "line 3: cameras.g.sectors.s.polygon: every point is a pair [x, y]",
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\ncoordinates = "0,0,1,0,1"',
            "line 3: cameras.g.sectors.s.coordinates: coordinates hold an odd count of numbers; they come in pairs x,y",
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\ncoordinates = "0;0;1;1"',
            "line 3: cameras.g.sectors.s.coordinates: coordinates must be numbers parted by commas, not '0;0;1;1'",
        ),
        (
            'site = "a"\n[cameras.g.lines.l]\na = [0.5, 0.5]\nb = [0.5, 0.5]',
            "line 2: cameras.g.lines.l: a and b are the same point",
        ),
        ('site = "a"\ncameras = 3', "line 2: cameras: write tables: [cameras.NAME]"),
        ('site = "a"\n[cameras]\ngate = 3', "line 3: cameras.gate: must be a table"),
        ('site = "a"\n[cameras.Gate]', "line 2: cameras.Gate: names are lower-case letters, digits, - and _"),
        (
            'site = "a"\n[movement]\nmax_speed = { persn = 2 }',
            "line 3: movement.max_speed: unknown target `persn`; did you mean `person`?",
        ),
        ('site = "a"\n[presence]\nclear_s = inf', "line 3: presence.clear_s: expected `float` <= 31622400.0"),
        ('site = "a"\n[movement]\nmax_speed = inf', "line 3: movement.max_speed: expected `float` <= 1000.0"),
        ('site = "a"\n[sensitivity]\nthreshold = inf', "line 3: sensitivity.threshold: expected `float` <= 1000000.0"),
        (
            'site = "a"\n[sensitivity]\nrule = "any"\nthreshold = 2',
            'line 4: sensitivity.threshold: threshold only means something with rule = "weighted"',
        ),
        (
            'site = "a"\n[sensitivity]\nrule = "most"',
            f"line 3: sensitivity.rule: unknown word `most`; known here: {', '.join(RULES)}",
        ),
        (
            'site = "a"\n[[schedule]]\nname = "n"\ndays = ["sunday"]',
            "line 4: schedule.days: unknown word `sunday`; known here: mon, tue, wed, thu, fri, sat, sun",
        ),
        ('site = "a"\nmin_score = 0.5', "line 2: min_score: expected `table`, got `float`"),
        ('site = "a"\ntargets = ["person", "person"]', "line 2: targets: `person` is there twice"),
        (
            'site = "a"\ntimezone = "Europe"',
            "line 2: timezone: no such time zone 'Europe'; for example \"Europe/Oslo\"",
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\npolygon = [[0, 0], [1, 1], [1, 0], [0, 1]]',
            "line 3: cameras.g.sectors.s.polygon: the edges from [0.0, 0.0] and from [1.0, 0.0] cross: "
            "give the corners in order around it",
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\ncoordinates = ""',
            "line 3: cameras.g.sectors.s.coordinates: coordinates must be numbers parted by commas, not ''",
        ),
        (
            'site = "a"\n[cameras.g.sectors.s]\npolygon = [[0, 0], [1, 0], [1, 1]]\nmovement = { sights = 3 }',
            "line 4: cameras.g.sectors.s.movement.min_hits: belongs to a track wherever it goes: "
            "set it for camera or site",
        ),
        (
            'site = "a"\n[movement]\ndwell_s = 2\nwindow_frames = 3\nmin_hits = 5',
            "line 5: movement.min_hits: is more than `window_frames`, the frames that are looked at",
        ),
        (
            'site = "a"\n[movement]\ndwell_s = 2\nof = 0',
            "line 4: movement.window_frames: expected `int` >= 1",
        ),
        (
            'site = "a"\n[movement]\nsights = 2\nmin_hits = 2',
            "line 4: movement.min_hits: `sights` is the old name of this key; give only one of the two",
        ),
        (
            'site = "a"\n[movement]\nwindow_frame = 2',
            "line 3: movement.window_frame: unknown key; did you mean `window_frames`?",
        ),
        ('site = "a"\nmovement = 2', "line 2: movement: expected `table`, got `int`"),
        (
            'site = "a"\nby_target.vehicle.sensitivity = 2',
            "line 2: by_target.vehicle.sensitivity: expected `table`, got `int`",
        ),
        (
            'site = "a"\n[cameras.g.lines.l]\na = [0.5, 0]\nb = [0.5, 1]\ndirections = ["in", "in"]',
            "line 5: cameras.g.lines.l.directions: give the two ways over the line a name each",
        ),
        (
            'site = "a"\n[[schedule]]\nname = "n"\ndarker_than = 0.2\nbrighter_than = 0.2',
            "line 4: schedule.darker_than: no frame lies between `brighter_than` and this",
        ),
        (
            'site = "a"\n[[schedule]]\nname = "n"\nbetween = ["22:00+02:00", "06:00"]',
            'line 4: schedule.between: write two times of the site\'s clock: ["22:00", "06:00"]',
        ),
        ("site = 3", 'line 1: site: missing or malformed; write for example site = "north-yard"'),
    ],
)
def test_a_mistake_is_shown_with_its_line_and_what_to_do(text, message):
    with pytest.raises(InvalidPolicy) as error:
        parse_site_policy(text)
    assert str(error.value) == message


def test_text_that_is_not_toml_is_refused_with_the_parsers_position():
    with pytest.raises(InvalidPolicy, match=r"not valid TOML: .*line 1"):
        parse_site_policy("site = \n")


def test_a_setting_is_inherited_key_by_key_and_the_nearest_wins():
    rules = parse_site_policy(
        """
        site = "a"
        min_score = { "*" = 0.4, hog = 0.6 }
        [presence]
        confirm_s = 3
        [cameras.gate.presence]
        clear_s = 9
        [cameras.gate.sectors.door]
        polygon = [[0, 0], [1, 0], [1, 1]]
        min_score = { hog = 0.7 }
        movement = { dwell_s = 5 }
        """
    ).camera("gate")
    door = rules.sectors[0].rules
    assert (door.presence.confirm_s, door.presence.clear_s) == (3, 9)
    assert (door.movement.dwell_s, rules.rules.movement.dwell_s) == (5, 1)
    assert (door.least("hog"), door.least("other")) == (0.7, 0.4)
    assert rules.rules.least("hog") == 0.6


def test_another_rule_inherits_nothing_that_only_the_rule_above_understands():
    above = 'site = "a"\n[sensitivity]\nrule = "{}"\nmissing = "fail_open"\n{}\n[cameras.g.sensitivity]\n{}'
    for given, here, meant in (
        (("at_least", "k = 2"), 'rule = "any"', Sensitivity("any", missing="fail_open")),
        (("at_least", "k = 2"), 'missing = "abstain"', Sensitivity("at_least", 2)),
        (("weighted", "threshold = 2"), 'rule = "majority"', Sensitivity("majority", missing="fail_open")),
        (("weighted", 'weights = { "*" = 3 }'), 'rule = "all"', Sensitivity("all", missing="fail_open")),
    ):
        policy = parse_site_policy(above.format(*given, here))
        assert policy.camera("g").rules.sensitivity == meant
        assert policy.camera("other").rules.sensitivity.rule == given[0]


def test_weights_without_a_rule_are_of_the_default_one_and_go_with_it():
    policy = parse_site_policy('site = "a"\nsensitivity.weights = { a = 2 }\ncameras.g.sensitivity.rule = "any"')
    assert policy.camera("g").rules.sensitivity == Sensitivity("any")
    assert policy.camera("other").rules.sensitivity.weight("a") == 2


def test_a_plausible_speed_is_one_for_all_or_by_target_with_the_shipped_ones_for_the_rest():
    def fastest(text: str) -> list[float]:
        movement = parse_site_policy(f'site = "a"\n{text}').camera("g").rules.movement
        return [movement.fastest(target) for target in ("person", "vehicle", "horse")]

    assert fastest("") == [3.0, 10.0, 3.0]
    assert fastest("movement = { max_speed = 2 }") == [2.0, 2.0, 2.0]
    assert fastest("movement = { max_speed = { person = 2 } }") == [2.0, 10.0, 3.0]
    assert fastest('movement = { max_speed = { "*" = 1, person = 2 } }') == [2.0, 1.0, 1.0]


def test_what_is_said_of_one_target_is_completed_from_what_is_said_of_all():
    rules = (
        parse_site_policy(
            """
        site = "a"
        min_score = { "*" = 0.4, hog = 0.6 }
        [sensitivity]
        rule = "majority"
        [by_target.vehicle]
        min_score = { hog = 0.8 }
        [by_target.animal]
        sensitivity = { rule = "at_least", k = 2 }
        """
        )
        .camera("gate")
        .rules
    )
    vehicle, animal = rules.of("vehicle"), rules.of("animal")
    assert (vehicle.least("hog"), vehicle.least("other"), vehicle.sensitivity.rule) == (0.8, 0.4, "majority")
    assert (animal.least("hog"), animal.sensitivity.k) == (0.6, 2)
    assert rules.of("person") == rules


def test_a_sensitivity_of_one_target_says_only_what_differs_from_that_of_all_wherever_either_stands():
    camera = parse_site_policy("""site = "a"
    targets = ["vehicle", "animal", "person"]
    [sensitivity]
    rule = "at_least"
    k = 2
    missing = "fail_open"
    [by_target.vehicle]
    min_score = { hog = 0.8 }
    sensitivity = { k = 3 }
    [by_target.animal]
    sensitivity = { rule = "any" }
    [cameras.gate.sensitivity]
    missing = "fail_closed"
    [cameras.gate.sectors.door]
    polygon = [[0, 0], [1, 0], [1, 1]]
    [cameras.gate.sectors.door.by_target.vehicle]
    min_score = { eye = 0.3 }
    """).camera("gate")
    rules = camera.sectors[0].rules
    vehicle, animal = rules.of("vehicle"), rules.of("animal")
    assert vehicle.sensitivity == Sensitivity("at_least", k=3, missing="fail_closed")
    assert animal.sensitivity == Sensitivity("any", missing="fail_closed")
    assert (vehicle.least("hog"), vehicle.least("eye"), camera.rules.of("vehicle").least("eye")) == (0.8, 0.3, 0.4)


def test_weights_of_a_camera_are_set_over_those_of_the_site_one_by_one():
    text = """site = "a"
    sensitivity = { rule = "weighted", weights = { "*" = 2, eye = 3 } }
    [cameras.gate]
    sensitivity = { weights = { hog = 1 } }
    """
    given = parse_site_policy(text).camera("gate").rules.sensitivity
    assert [given.weight(model) for model in ("eye", "hog", "other")] == [3, 1, 2]


def test_frigates_coordinates_mean_the_same_polygon():
    shapes = ("polygon = [[0.1, 0.2], [0.9, 0.2], [0.5, 0.8]]", 'coordinates = "0.1,0.2,0.9,0.2,0.5,0.8"')
    polygons = [
        parse_site_policy(f'site = "a"\n[cameras.g.sectors.s]\n{shape}').camera("g").sectors[0].polygon
        for shape in shapes
    ]
    assert polygons[0] == polygons[1]


def test_a_camera_that_is_not_described_gets_the_sites_rules_on_its_whole_view():
    camera = parse_site_policy('site = "a"\ntargets = ["vehicle"]').camera("new")
    assert [s.name for s in camera.sectors] == ["view"]
    assert camera.sectors[0].rules.targets == ("vehicle",)
    assert "bus" in camera.targets["vehicle"]
    assert camera.crops(EnsembleInfo("e", (DETECTOR, CHANGE))) == {}


@pytest.mark.parametrize(
    ("extra", "models", "asked"),
    [
        ("", [DETECTOR, CLASSIFIER], True),
        ('targets = ["vehicle"]', [CLASSIFIER], False),
        ("", [DETECTOR, CHANGE], False),
        (
            'targets = ["vehicle"]\n[[schedule]]\nname = "night"\ndarker_than = 0.2\ntargets = ["person"]',
            [CLASSIFIER],
            True,
        ),
    ],
)
def test_the_whole_view_is_asked_about_as_a_sector_where_a_classifier_knows_its_target(extra, models, asked):
    info = EnsembleInfo("e", tuple(models))
    camera = parse_site_policy(f'site = "a"\n{extra}').camera("new")
    assert camera.crops(info) == ({"view": (0, 0, 1, 1)} if asked else {})
    halves = policy(extra=extra.partition("\n")[0])
    assert set(halves.crops(info)) == {"west", "east"}


def test_a_site_may_name_its_own_target():
    camera = parse_site_policy(
        'site = "a"\ntargets = ["fork"]\n[target.fork]\nclasses = ["forklift", "truck"]\n[cameras.g]\n'
    ).camera("g")
    assert camera.targets == {"fork": {"forklift", "truck"}}


def test_the_digest_names_the_rules_and_not_the_text():
    plain = parse_site_policy('site = "a"\n[presence]\nclear_s = 2.0')
    noted = parse_site_policy('# the same\nsite = "a"\npresence = { clear_s = 2 }')
    other = parse_site_policy('site = "a"\n[presence]\nclear_s = 2.5')
    assert plain.digest == noted.digest != other.digest


def test_a_key_means_the_same_under_its_old_name_in_every_layer():
    def text(min_hits: str, window_frames: str) -> str:
        return f"""site = "a"
        [movement]
        {min_hits} = 3
        [cameras.g.movement]
        {window_frames} = 8
        [[schedule]]
        name = "night"
        between = ["22:00", "06:00"]
        movement = {{ {min_hits} = 1 }}
        """

    new, mixed = parse_site_policy(text("min_hits", "window_frames")), parse_site_policy(text("sights", "of"))
    movement = new.camera("g").rules.movement
    assert (movement.min_hits, movement.window_frames) == (3, 8)
    assert new.camera("g").scheduled[0].policy.rules.movement.min_hits == 1
    assert msgspec.json.encode(new) == msgspec.json.encode(mixed)


def test_a_stored_policy_keeps_the_names_that_its_digest_was_made_of():
    policy = parse_site_policy('site = "a"\nmovement = { min_hits = 3, window_frames = 8 }')
    assert b'"movement":{"sights":3,"of":8,' in msgspec.json.encode(policy)


def test_sectors_that_overlap_are_not_ways_to_move():
    camera = parse_site_policy((SITES / "pets.toml").read_text()).camera("view1")
    assert ("junction", "grass") in camera.apart
    assert not any("view" in pair for pair in camera.apart)


@pytest.mark.parametrize("path", sorted(SITES.glob("*.toml")), ids=lambda p: p.name)
def test_every_shipped_site_policy_is_valid(path):
    assert parse_site_policy(path.read_text()).site


@pytest.mark.parametrize("path", sorted(SITES.glob("*.toml")), ids=lambda p: p.name)
def test_the_json_of_a_stored_policy_gives_its_digest_and_that_of_another_does_not(path):
    policy = parse_site_policy(path.read_text())
    stored = msgspec.json.encode(policy, order="deterministic").decode()
    assert digest_of_stored(stored) == policy.digest
    assert digest_of_stored(stored.replace("0.4", "0.3")) != policy.digest
    assert digest_of_stored(stored.replace('"version":', '"version":1')) != policy.digest


def test_evidence_has_its_share_and_weights_written_in_and_other_rules_have_no_share():
    given = policy(extra='sensitivity = {rule = "evidence"}').rules.sensitivity
    assert (given.right, given.weight("hog-people"), given.weight("eye")) == (0.9, 0.5, 1.0)
    assert b"right" in msgspec.json.encode(given)
    assert b"right" not in msgspec.json.encode(policy().rules)


@pytest.mark.parametrize(
    ("sensitivity", "message"),
    [
        ('rule = "any"\nright = 0.9', 'line 4: sensitivity.right: right only means something with rule = "evidence"'),
        ('rule = "evidence"\nright = 0.5', "line 4: sensitivity.right: expected `float` > 0.5"),
        ('rule = "evidence"\nright = 1.0', "line 4: sensitivity.right: expected `float` <= 0.999"),
        ('rule = "evidence"\nthreshold = 2', 'threshold only means something with rule = "weighted"'),
    ],
)
def test_a_share_that_cannot_be_is_refused_with_its_line(sensitivity, message):
    with pytest.raises(InvalidPolicy, match=re.escape(message)):
        parse_site_policy(f'site = "a"\n[sensitivity]\n{sensitivity}')
