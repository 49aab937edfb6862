"""The models at work: the only door to torch, Pillow and numpy in the server.

Reading order: `ensemble` (bytes in, predictions out), `module` (all models, one forward call), `decode` and `forms`
(bytes to rows), `building` (a card becomes a network: ours, or `foreign` ones), `lock` and `golden` (what is served,
written down and tried); then the networks: `yolov3_tiny`, `hog`, `efficientnet_lite`, `frame_change`, and what they
share, `detections`.
"""

from server.ensemble import drawn
from server.ensemble.ensemble import Ensemble, load_ensemble
from server.ensemble.golden import approve, read_golden, shipped_golden
from server.ensemble.lock import check_lock, write_lock

__all__ = [
    "Ensemble",
    "approve",
    "check_lock",
    "drawn",
    "load_ensemble",
    "read_golden",
    "shipped_golden",
    "write_lock",
]
