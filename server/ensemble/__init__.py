"""The models at work: the only door to torch, Pillow and numpy in the server.

Reading order: `ensemble` (bytes in, sightings out), `module` (all models, one forward call), `decode` and `forms`
(bytes to rows), then the networks: `yolov3_tiny`, `hog`, `frame_change`, and what they share, `detections`.
"""

from server.ensemble.ensemble import Ensemble, load_ensemble, top_label

__all__ = ["Ensemble", "load_ensemble", "top_label"]
