"""The engine: how one ensemble answers many requests at once, as fast as the machine allows.

Reading order: `stages` (what an ensemble gives the engine), `job` (a request, and the portions cut from it),
`batcher` (who works on which images next), `work` (what a worker does with a portion), `crew` (the threads),
`engine` (all of it, as the pipeline knows an ensemble). `pace` says how fast it goes.

Nothing here knows torch: the stages do.
"""

from server.engine.batcher import Load
from server.engine.engine import Engine
from server.engine.stages import Stages

__all__ = ["Engine", "Load", "Stages"]
