"""The models: images in, predictions out. Only this package imports torch and numpy, and Pillow to decode.

Begin with README.md, then `ensemble` (loads and runs all models) and `module` (all models as one PyTorch module).
"""

from server.ensemble.ensemble import Ensemble, load_ensemble
from server.ensemble.golden import approve, read_golden, shipped_golden
from server.ensemble.lock import lock_of

__all__ = [
    "Ensemble",
    "approve",
    "load_ensemble",
    "lock_of",
    "read_golden",
    "shipped_golden",
]
