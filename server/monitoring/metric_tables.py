"""Names, help, labels and buckets of the server's metrics."""

from __future__ import annotations

from typing import get_args

from server.frames.keeper import NotKept

PREFIX = "sectorwatch"

_INFERENCE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LATENCY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_MARGINS = (-3.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)

_CAMERA = ("site", "camera")
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bursts_received": ("Bursts accepted, including known ones.", _CAMERA),
    "bursts_known": ("Bursts that were accepted earlier.", _CAMERA),
    "bursts_late": ("Bursts older than the newest frame of their camera.", _CAMERA),
    "bursts_held": ("Bursts ahead of the server's clock, or late ones that waited for their refold.", _CAMERA),
    "bursts_set_aside": ("Bursts that came too late (`late_within`) and change no event.", _CAMERA),
    "bursts_missed": ("Bursts that their agent dropped or the server refused.", _CAMERA),
    "frames": ("Frames of new bursts.", _CAMERA),
    "burst_frames_duplicate": ("Frames that repeat another frame of their burst byte for byte.", _CAMERA),
    "events": ("Events from new bursts.", (*_CAMERA, "sector", "label", "kind")),
    "images": ("Images that the ensemble answered.", ()),
    "model_answers_missing": ("Images that a model did not answer.", ("model",)),
    "model_votes": ("Votes on candidates, one per frame.", ("model", "vote")),
    "undecided": ("Targets in sectors that stayed undecided, one per frame.", ()),
    "frames_kept": ("Frames of which the picture was kept.", ()),
    "frames_kept_bytes": ("Bytes of these pictures.", ()),
    "frames_not_kept": ("Frames of which the picture was not kept, though the site keeps pictures.", ("cause",)),
    "channel_failures": ("Attempts to send on a channel that failed.", ("channel",)),
    "golden_checks": ("Replays of the golden set.", ("outcome",)),
    "ensemble_swaps": ("Swaps and rollbacks requested.", ("outcome",)),
    "quota_refusals": ("Uploads refused because their client used up its quota.", ("client",)),
    "http_requests": ("HTTP requests answered.", ("method", "route", "status")),
}
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "model_disagreement_ratio": ("Share of the newest burst's frames in which models disagreed.", _CAMERA),
    "model_info": ("1, for each model in service.", ("model", "sha256")),
    "ensemble_info": ("1, for the ensemble in service.", ("ensemble",)),
    "agent_last_burst_timestamp_seconds": ("Instant of the newest frame received.", _CAMERA),
    "agent_last_heartbeat_timestamp_seconds": ("Instant at which the newest heartbeat came.", _CAMERA),
    "agent_clock_offset_seconds": ("The agent's clock minus the server's, at the newest heartbeat.", _CAMERA),
    "agent_spool_bursts": ("Bursts waiting at the agent.", _CAMERA),
    "agent_spool_bytes": ("Bytes waiting at the agent.", _CAMERA),
    "agent_uploaded_bytes": ("Bytes uploaded for this camera since its agent started.", _CAMERA),
    "database_bytes": ("Size of the database, without free pages.", ()),
    "disk_free_bytes": ("Room for the database on its disk; NaN: the disk of another machine.", ()),
    "disk_full_in_seconds": ("When the disk is full at the rate of the last week; NaN: not known yet.", ()),
    "kept_frames": ("Frames whose picture is kept now.", _CAMERA),
    "kept_frames_bytes": ("Bytes of the pictures that are kept now.", _CAMERA),
    "channel_backlog": ("Announcements that a channel has not sent yet.", ("channel",)),
    "channel_oldest_undelivered_seconds": ("How long the oldest of them has waited; 0: none waits.", ("channel",)),
    "channel_paused": ("1 while the channel is paused, by a person or by the server.", ("channel",)),
    "dead_letters": ("Announcements that a channel could not deliver.", ("channel",)),
    "ready": ("1 while a burst can be judged and stored, as /readyz says, else 0.", ()),
    "build_info": ("1, for this version of the server.", ("version",)),
}
HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "capture_to_event_seconds": ("Time from the frame that confirmed an event to its commit.", (), _LATENCY_S),
    "capture_to_publish_seconds": (
        "Time from the frame that confirmed an event to its first sending on a channel.",
        ("channel",),
        _LATENCY_S,
    ),
    "answer_seconds": ("Time to answer one request's frames, including waiting.", (), _INFERENCE_S),
    "inference_seconds": ("Time of one call of a model, for one worker's images.", ("model",), _INFERENCE_S),
    "policy_margin": (
        "Distance of the rule from the opposite decision, one per candidate.",
        ("site", "sector"),
        _MARGINS,
    ),
}
"""Name without the prefix -> help, labels, and the buckets of a histogram."""

FROM_THE_START: dict[str, tuple[str, ...]] = {
    "golden_checks": ("passed", "failed"),
    "frames_not_kept": get_args(NotKept),
}
"""Counters whose series begin with 0: Prometheus takes a series that begins with 1 for no increase."""


SPACE = ("database_bytes", "disk_free_bytes", "disk_full_in_seconds")
