"""What a client can be told went wrong: one shape (OpenAI's), one table from raytile's own errors to HTTP."""

from __future__ import annotations

import re
from typing import Any

from raytile.errors import CanvasError, ClusterError, InvalidModel, InvalidRequest, RaytileError

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,60}")


class ServiceError(RaytileError):
    """Something went wrong here, not with the request.

    Of all refusals: the HTTP `status`; `param`, the field at fault; `retry_after`, whole seconds to wait."""

    exit_code = 2
    status, type, code = 500, "server_error", "internal_error"

    def __init__(self, message: str, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.retry_after = message, param, retry_after


class BadRequest(ServiceError):
    """What was sent cannot be read: not JSON, a header that makes no sense."""

    status, type, code = 400, "invalid_request_error", "bad_request"


class Unauthorized(ServiceError):
    """No key, or one that is not known."""

    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(ServiceError):
    """The key may not do this."""

    status, type, code = 403, "permission_error", "insufficient_scope"


class NotFound(ServiceError):
    """There is none of that name, or it is another owner's."""

    status, type, code = 404, "invalid_request_error", "not_found"


class NotAllowed(ServiceError):
    """The route is there, but not for this method."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class SlowBody(ServiceError):
    """The body did not come in time."""

    status, type, code = 408, "invalid_request_error", "request_timeout"


class Conflict(ServiceError):
    """It is not in a state for that."""

    status, type, code = 409, "invalid_request_error", "conflict"


class TooLarge(ServiceError):
    """More bytes than are taken."""

    status, type, code = 413, "invalid_request_error", "too_large"


class WrongKind(ServiceError):
    """A body of another kind than the route takes."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class HeadTooLarge(ServiceError):
    """More header lines, or longer ones, than a client needs."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"


class OutOfRange(ServiceError):
    """A part of a file that is not there."""

    status, type, code = 416, "invalid_request_error", "range_not_satisfiable"


class Unprocessable(ServiceError):
    """It was read, and cannot be painted: `param` says where."""

    status, type, code = 422, "invalid_request_error", "invalid_value"


class Busy(ServiceError):
    """Too much is waiting already: `retry_after` says when to come again."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class NotOffered(ServiceError):
    """A standard has it, and this service does not."""

    status, type, code = 501, "invalid_request_error", "not_offered"


class Unavailable(ServiceError):
    """Store or cluster do not answer."""

    status, type, code = 503, "server_error", "unavailable"


KINDS: tuple[type[ServiceError], ...] = (
    BadRequest, Unauthorized, Forbidden, NotFound, NotAllowed, SlowBody, Conflict, TooLarge, WrongKind, OutOfRange,
    Unprocessable, Busy, NotOffered, Unavailable, ServiceError,
)  # fmt: skip
BY_STATUS = {kind.status: kind for kind in KINDS}
_OURS: tuple[tuple[type[RaytileError], type[ServiceError]], ...] = (
    (InvalidRequest, Unprocessable),
    (InvalidModel, Unprocessable),
    (CanvasError, Unavailable),
    (ClusterError, Unavailable),
)


def served(error: BaseException) -> ServiceError:
    """Any error as a client may see it: raytile's own words for its own errors, none for a bug."""
    if isinstance(error, ServiceError):
        return error
    for ours, kind in _OURS:
        if isinstance(error, ours):
            if kind is Unavailable:  # its words name places of the server
                return kind("the store or the cluster does not answer: try again soon", retry_after=5)
            words = str(error)
            return kind(words, field_of(words))
    return ServiceError("something went wrong here: the server's log says what")


def field_of(words: str) -> str | None:
    """The field that a one-line error of ours begins with."""
    head, colon, _ = words.partition(":")
    return head if colon and _FIELD.fullmatch(head) else None


def body(error: ServiceError) -> dict[str, Any]:
    """The JSON that every refusal has."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def headers(error: ServiceError) -> dict[str, str]:
    found = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return {**found, "WWW-Authenticate": "Bearer"} if error.status == 401 else found
