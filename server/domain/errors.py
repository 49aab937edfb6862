"""The errors that the server raises on purpose.

    SectorwatchError
    ├── Refused                  this input will never be accepted: fix it, do not send it again
    │   ├── Malformed            the bytes are not the form they claim to be                    (HTTP 400)
    │   ├── TooLarge             more frames, bytes or pixels than this server takes            (HTTP 413)
    │   │   └── TooMuchWork      more frames than this server judges within `answer_within_s`
    │   ├── WrongType            another media type than this endpoint reads                    (HTTP 415)
    │   └── Unprocessable        well-formed, but it cannot be judged                           (HTTP 422)
    ├── NotAcceptable            no form that the client accepts can be made here               (HTTP 406)
    ├── Unauthorized             no token, or one that this server does not know                (HTTP 401)
    ├── Forbidden                a known token that does not cover the request                  (HTTP 403)
    ├── Unknown                  no such thing here                                             (HTTP 404)
    ├── Conflict                 it contradicts the state of the server, or an action under way (HTTP 409)
    ├── OtherEnsemble            a condition names another ensemble than the one in service     (HTTP 412)
    ├── Incomplete               the connection brought a part of the request only              (HTTP 408)
    ├── RetryLater               nothing is wrong with the input: send it again after a while   (HTTP 503)
    │   ├── OverQuota            this client has used its quota for now                         (HTTP 429)
    │   └── DatabaseUnavailable  the database does not answer
    └── ConfigurationError       the installation is at fault: an operator has to act           (HTTP 500)
        ├── DatabaseDamaged      the database's file is damaged, or a value in it is not one
        └── Unapproved           the models no longer answer as they did when they were approved

`server.web.problem_json` alone chooses the HTTP status of a class.
"""

from __future__ import annotations

from server.domain.secrets_in_text import without_secrets


class SectorwatchError(Exception):
    """An error whose message says what happened and what to do, for a user to read. It hides secrets of addresses."""

    def __init__(self, detail: str, *, frame: int | None = None, begun: bool = True) -> None:
        detail = without_secrets(detail)  # it may hold an error of a library, with the address that failed
        super().__init__(detail)
        self.detail = detail
        self.frame = frame
        """Index (from 0) of the frame at fault, if a frame is."""
        self.begun = begun
        """Whether work may have been done on the input: then its client's quota stays charged."""


class Refused(SectorwatchError):
    """This input will never be accepted: fix it, do not send it again."""


class Malformed(Refused):
    """The bytes are not the form they claim to be."""


class TooLarge(Refused):
    """More frames, bytes or pixels than this server takes."""


class TooMuchWork(TooLarge):
    """More frames than this server judges in the time that an answer may take, also with nothing else to do."""


class WrongType(Refused):
    """Another media type than this endpoint reads."""


class Unprocessable(Refused):
    """Well-formed, but it cannot be judged."""


class NotAcceptable(SectorwatchError):
    """No form that the client accepts can be made here."""


class Unauthorized(SectorwatchError):
    """No token, or one that this server does not know."""


class Forbidden(SectorwatchError):
    """A known token that does not cover the request."""


class Unknown(SectorwatchError):
    """No such thing here."""


class NoLongerKept(SectorwatchError):
    """It was here, and its time is over, or a person had it erased."""


class Conflict(SectorwatchError):
    """It contradicts the state of the server, or an action under way."""


class OtherEnsemble(SectorwatchError):
    """A condition names another ensemble than the one in service."""


class Incomplete(SectorwatchError):
    """The connection brought a part of the request only, or was too slow: send it again."""


class RetryLater(SectorwatchError):
    """Nothing is wrong with the input: send it again after `retry_after_s`."""

    def __init__(self, detail: str, *, retry_after_s: int = 5, begun: bool = False) -> None:
        super().__init__(detail, begun=begun)
        self.retry_after_s = retry_after_s


class OverQuota(RetryLater):
    """This client has used its quota for now."""


class DatabaseUnavailable(RetryLater):
    """The database does not answer. An operator may have to repair it. As a rule, frames have been judged by then."""

    def __init__(self, detail: str, *, retry_after_s: int = 5, begun: bool = True) -> None:
        super().__init__(detail, retry_after_s=retry_after_s, begun=begun)


class ConfigurationError(SectorwatchError):
    """The installation is at fault: an operator has to act."""


class DatabaseDamaged(ConfigurationError):
    """The database's file is damaged, or a stored value cannot be read."""


class Unapproved(ConfigurationError):
    """The models no longer answer as they did when they were approved."""
