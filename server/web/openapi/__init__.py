"""The API as an OpenAPI 3.1 document."""

from server.web.openapi.document import document, routes

__all__ = ["document", "routes"]
