"""The shipped targets: named groups of classes, across COCO's and ImageNet's vocabularies."""

from __future__ import annotations

MOVING = "moving"
"""The target of whatever moves. Its votes are the regions of models that vote on no other target."""

SHIPPED: dict[str, frozenset[str]] = {
    "person": frozenset({"person", "pedestrian"}),
    "vehicle": frozenset(
        {
            *("car", "bus", "truck", "motorcycle", "motorbike"),
            *("minivan", "cab", "pickup", "jeep", "convertible", "sports car", "limousine", "racer"),
            *("beach wagon", "minibus", "trolleybus", "school bus", "police van", "ambulance", "moving van"),
            *("garbage truck", "tow truck", "trailer truck", "fire engine", "recreational vehicle"),
            *("moped", "motor scooter"),
        }
    ),
    "bicycle": frozenset({"bicycle", "mountain bike", "bicycle-built-for-two"}),
    "animal": frozenset({"bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"}),
    MOVING: frozenset({"moving"}),
}

LABEL_OF = {name: target for target, classes in SHIPPED.items() if target != MOVING for name in classes}
"""A class of a detector -> the shipped target that it belongs to."""
