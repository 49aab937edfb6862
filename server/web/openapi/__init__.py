"""The API as an OpenAPI document (`document`), the parts of which it is made, and the twins of the console's pages."""

from server.web.openapi.document import document, routes
from server.web.openapi.twins import Twin

__all__ = ["Twin", "document", "routes"]
