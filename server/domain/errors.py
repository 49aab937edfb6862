"""The errors that the server raises on purpose.

    SectorwatchError
    ├── Refused                  this input will never be accepted: fix it, do not send it again
    │   ├── Malformed            the bytes are not the form they claim to be                    (HTTP 400)
    │   ├── TooLarge             more frames, bytes or pixels than this server takes            (HTTP 413)
    │   ├── WrongType            another media type than this endpoint reads                    (HTTP 415)
    │   └── Unprocessable        well-formed, but it cannot be judged                           (HTTP 422)
    ├── Unauthorized             no token, or one that this server does not know                (HTTP 401)
    ├── Forbidden                a known token that does not cover the request                  (HTTP 403)
    ├── Unknown                  no such thing here                                             (HTTP 404)
    ├── Conflict                 it contradicts the state of the server, or an action under way (HTTP 409)
    ├── OtherEnsemble            a condition names another ensemble than the one in service     (HTTP 412)
    ├── RetryLater               nothing is wrong with the input: send it again after a while   (HTTP 503)
    │   ├── OverQuota            this client has used its quota for now                         (HTTP 429)
    │   └── DatabaseUnavailable  the database does not answer
    └── ConfigurationError       the installation is at fault: an operator has to act           (HTTP 500)
        └── Unapproved           the models no longer answer as they did when they were approved

`kind` is one of refused, later, broken. `server.web.problem_json` alone chooses the HTTP status of a class.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Kind = Literal["refused", "later", "broken"]


class SectorwatchError(Exception):
    """An error whose message says what happened and what to do, for a user to read."""

    kind: ClassVar[Kind] = "broken"

    def __init__(self, detail: str, *, frame: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.frame = frame
        """Index (from 0) of the frame at fault, if a frame is."""


class Refused(SectorwatchError):
    kind = "refused"


class Malformed(Refused):
    pass


class TooLarge(Refused):
    pass


class WrongType(Refused):
    pass


class Unprocessable(Refused):
    pass


class Unauthorized(SectorwatchError):
    kind = "refused"


class Forbidden(SectorwatchError):
    kind = "refused"


class Unknown(SectorwatchError):
    kind = "refused"


class Conflict(SectorwatchError):
    kind = "refused"


class OtherEnsemble(SectorwatchError):
    kind = "refused"


class RetryLater(SectorwatchError):
    kind = "later"

    def __init__(self, detail: str, *, retry_after_s: int = 5) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class OverQuota(RetryLater):
    pass


class DatabaseUnavailable(RetryLater):
    """The database does not answer. An operator may have to repair it."""


class ConfigurationError(SectorwatchError):
    kind = "broken"


class Unapproved(ConfigurationError):
    pass
