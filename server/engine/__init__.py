"""The engine: how ensembles answer many requests at once. Begin with `engine`, then `batcher`.

Nothing here knows torch: an ensemble's `stages` do.
"""

from server.engine.batcher import Load
from server.engine.engine import SILENCE_S, Engine
from server.engine.ensemble_handle import EnsembleHandle
from server.engine.stages import Stages

__all__ = ["SILENCE_S", "Engine", "EnsembleHandle", "Load", "Stages"]
