"""The Open Inference Protocol: begin with `endpoints`; `codec` reads and writes bodies, `statistics` counts."""

from server.web.oip_v2.codec import IndexRequest, InferRequest
from server.web.oip_v2.endpoints import routes

__all__ = ["IndexRequest", "InferRequest", "routes"]
