"""The terms of Camtrap DP 1.0.2 with their types and constraints, as https://camtrap-dp.tdwg.org documents them, in the
forms that frictionless and jsonschema check by. Nothing is fetched.
"""

from __future__ import annotations

from typing import Any

Field = dict[str, Any]
_MISSING = ["", "NA", "NaN", "nan"]


def _text(name: str, **constraints: Any) -> Field:
    return {"name": name, "type": "string", "constraints": constraints}


def _number(name: str, kind: str = "number", **constraints: Any) -> Field:
    return {"name": name, "type": kind, "constraints": constraints}


def _instant(name: str, **constraints: Any) -> Field:
    return {"name": name, "type": "datetime", "format": "%Y-%m-%dT%H:%M:%S%z", "constraints": constraints}


def _flag(name: str, **constraints: Any) -> Field:
    return {"name": name, "type": "boolean", "constraints": constraints}


def _names(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def _refers(field: str, resource: str) -> dict[str, Any]:
    return {"fields": field, "reference": {"resource": resource, "fields": field}}


def _key(name: str) -> Field:
    return _text(name, required=True, unique=True)


DEPLOYMENTS: dict[str, Any] = {
    "fields": [
        _key("deploymentID"),
        _text("locationID"),
        _text("locationName"),
        _number("latitude", required=True, minimum=-90, maximum=90),
        _number("longitude", required=True, minimum=-180, maximum=180),
        _number("coordinateUncertainty", "integer", minimum=1),
        _instant("deploymentStart", required=True),
        _instant("deploymentEnd", required=True),
        _text("setupBy"),
        _text("cameraID"),
        _text("cameraModel"),
        _number("cameraDelay", "integer", minimum=0),
        _number("cameraHeight", minimum=0),
        _number("cameraDepth", minimum=0),
        _number("cameraTilt", "integer", minimum=-90, maximum=90),
        _number("cameraHeading", "integer", minimum=0, maximum=360),
        _number("detectionDistance", minimum=0),
        _flag("timestampIssues"),
        _flag("baitUse"),
        _text(
            "featureType",
            **_names(
                "roadPaved", "roadDirt", "trailHiking", "trailGame", "roadUnderpass", "roadOverpass", "roadBridge"
            ),
        ),
        _text("habitat"),
        _text("deploymentGroups"),
        _text("deploymentTags"),
        _text("deploymentComments"),
    ],
    "missingValues": _MISSING,
    "primaryKey": "deploymentID",
}
MEDIA: dict[str, Any] = {
    "fields": [
        _key("mediaID"),
        _text("deploymentID", required=True),
        _text("captureMethod", **_names("activityDetection", "timeLapse")),
        _instant("timestamp", required=True),
        _text("filePath", required=True, pattern=r"^(?=^[^./~])(^((?!\.{2}).)*$).*$"),
        _flag("filePublic", required=True),
        _text("fileName"),
        _text("fileMediatype", required=True, pattern="^(image|video|audio)/.*$"),
        {"name": "exifData", "type": "any"},
        _flag("favorite"),
        _text("mediaComments"),
    ],
    "missingValues": _MISSING,
    "primaryKey": "mediaID",
    "foreignKeys": [_refers("deploymentID", "deployments")],
}
OBSERVATIONS: dict[str, Any] = {
    "fields": [
        _key("observationID"),
        _text("deploymentID", required=True),
        _text("mediaID"),
        _text("eventID"),
        _instant("eventStart", required=True),
        _instant("eventEnd", required=True),
        _text("observationLevel", required=True, **_names("media", "event")),
        _text(
            "observationType",
            required=True,
            **_names("animal", "human", "vehicle", "blank", "unknown", "unclassified"),
        ),
        _text("cameraSetupType", **_names("setup", "calibration")),
        _text("scientificName"),
        _number("count", "integer", minimum=1),
        _text("lifeStage", **_names("adult", "subadult", "juvenile")),
        _text("sex", **_names("female", "male")),
        _text("behavior"),
        _text("individualID"),
        _number("individualPositionRadius", minimum=0),
        _number("individualPositionAngle", minimum=-90, maximum=90),
        _number("individualSpeed", minimum=0),
        _number("bboxX", minimum=0, maximum=1),
        _number("bboxY", minimum=0, maximum=1),
        _number("bboxWidth", minimum=1e-15, maximum=1),
        _number("bboxHeight", minimum=1e-15, maximum=1),
        _text("classificationMethod", **_names("human", "machine")),
        _text("classifiedBy"),
        _instant("classificationTimestamp"),
        _number("classificationProbability", minimum=0, maximum=1),
        _text("observationTags"),
        _text("observationComments"),
    ],
    "missingValues": _MISSING,
    "primaryKey": "observationID",
    "foreignKeys": [_refers("deploymentID", "deployments"), _refers("mediaID", "media")],
}
SCHEMAS = {"deployments": DEPLOYMENTS, "media": MEDIA, "observations": OBSERVATIONS}

_ADDRESS = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"
_DATE = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}
PROFILE: dict[str, Any] = {
    "type": "object",
    "required": ["profile", "created", "contributors", "project", "spatial", "temporal", "taxonomic", "resources"],
    "properties": {
        "profile": {"const": f"{_ADDRESS}camtrap-dp-profile.json"},
        "name": {"type": "string", "pattern": r"^([-a-z0-9._/])+$"},
        "created": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
        "contributors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["title"],
                "properties": {
                    "role": {"enum": ["contact", "principalInvestigator", "rightsHolder", "publisher", "contributor"]}
                },
            },
        },
        "sources": {"type": "array", "items": {"required": ["title"], "properties": {"version": {"type": "string"}}}},
        "project": {
            "required": ["title", "samplingDesign", "captureMethod", "individualAnimals", "observationLevel"],
            "properties": {
                "samplingDesign": {
                    "enum": [
                        *("simpleRandom", "systematicRandom", "clusteredRandom"),
                        *("experimental", "targeted", "opportunistic"),
                    ]
                },
                "captureMethod": {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": {"enum": ["activityDetection", "timeLapse"]},
                },
                "individualAnimals": {"type": "boolean"},
                "observationLevel": {"type": "array", "items": {"enum": ["media", "event"]}},
            },
        },
        "spatial": {
            "required": ["type", "coordinates"],
            "properties": {
                "type": {"const": "MultiPoint"},
                "coordinates": {
                    "type": "array",
                    "items": {"type": "array", "minItems": 2, "items": {"type": "number"}},
                },
            },
        },
        "temporal": {"required": ["start", "end"], "properties": {"start": _DATE, "end": _DATE}},
        "taxonomic": {"type": "array", "items": {"required": ["scientificName"]}},
        "resources": {
            "type": "array",
            "minItems": 3,
            "items": {
                "required": ["name", "path", "profile", "schema"],
                "properties": {
                    "name": {"enum": ["deployments", "media", "observations"]},
                    "profile": {"const": "tabular-data-resource"},
                    "schema": {"enum": [f"{_ADDRESS}{name}-table-schema.json" for name in SCHEMAS]},
                },
            },
        },
    },
}
