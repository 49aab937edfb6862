"""The engine: how ensembles answer many requests at once, as fast as the machine allows.

Reading order: `stages` (what an ensemble gives the engine), `job` (a request, and the batches cut from it),
`batcher` (who works on which images next), `work` (what a worker does with a batch), `pool` (the threads),
`generation` (an ensemble as the pipeline knows it), `engine` (all of it). `pace` says how fast it goes.

Nothing here knows torch: the stages do.
"""

from server.engine.batcher import Load
from server.engine.engine import SILENCE_S, Engine
from server.engine.ensemble_handle import EnsembleHandle
from server.engine.stages import Stages

__all__ = ["SILENCE_S", "Engine", "EnsembleHandle", "Load", "Stages"]
