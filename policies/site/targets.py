"""The shipped targets: named groups of classes, across COCO's and ImageNet's vocabularies."""

from __future__ import annotations

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
}
