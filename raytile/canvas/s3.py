"""Objects in an S3 bucket: conditional writes for heads, and retries with back-off and jitter for all.

A try that may have been heard is repeated here, where the bytes that were sent are known: obstore itself tries once,
but for the arrays, which users read too and where every write may be done twice."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from raytile.canvas.patience import Patience, store_deadline
from raytile.canvas.place import split
from raytile.errors import CanvasError

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store
    from zarr.storage import StoreLike

T = TypeVar("T")

CONNECT = timedelta(seconds=5)  # longest wait for a connection
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds; a pause is drawn from 0 to the first, doubled at each try
ARRAY_TRIES = 3  # what a chunk gets within one of our tries
FRESH = timedelta(minutes=10)  # obstore asks for the credentials again five minutes before they are this old
_STATUS = re.compile(r"status code: (\d{3})")
_PASSING = {"408", "409", "429"}  # of the 4xx: too slow, two conditional writes at once, too many
_SERVER, _SYSTEM = re.compile(r"https?://[^/\s,]+"), re.compile(r'(?:message|error): "([^"]+)"')
_CODE, _MESSAGE = re.compile(r"<Code>(.*?)</Code>"), re.compile(r"<Message>(.*?)</Message>")


class S3Bytes:
    """The objects below s3://BUCKET/KEY/. A tag is an ETag.

    Credentials, region and endpoint are those that boto3 finds (environment, profile, web identity, instance), such
    as AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self.where = url
        self._patience = patience or Patience(store_deadline())

    @cached_property
    def _store(self) -> S3Store:
        return self._connect(0)

    def _connect(self, retries: int) -> S3Store:
        answer = max(1.0, min(self._patience.answer, self._patience.seconds))
        return _connect(*split(self.where), timedelta(seconds=answer), retries)

    def read(self, key: str) -> tuple[bytes, str] | None:
        return self.run(f"read {key} of {self.where}", lambda: self._get(key))

    def _get(self, key: str) -> tuple[bytes, str] | None:
        import obstore

        try:
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), _etag(found.meta)
        except FileNotFoundError as error:
            self._refuse_no_bucket(error)
            return None

    def exists(self, key: str) -> bool:
        import obstore

        def look() -> bool:
            try:
                obstore.head(self._store, key)
            except FileNotFoundError:
                return False
            return True

        return self.run(f"look for {key} of {self.where}", look)

    def write(self, key: str, data: bytes) -> None:
        import obstore

        def put() -> None:
            obstore.put(self._store, key, data, use_multipart=False)

        self.run(f"write {key} of {self.where}", put)

    def create(self, key: str, data: bytes) -> str | None:
        return self._put_if(key, data, "create")

    def swap(self, key: str, tag: str, data: bytes) -> str | None:
        return self._put_if(key, data, {"e_tag": tag})

    def _put_if(self, key: str, data: bytes, mode: Any) -> str | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        tries = 0

        def put() -> str | None:
            nonlocal tries
            tries += 1
            try:
                return _etag(obstore.put(self._store, key, data, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                if _status(error) == "409":
                    raise
                # The answer to an earlier try may have been lost: then what refuses us is what we have put there.
                found = self._get(key) if tries > 1 else None
                return found[1] if found is not None and found[0] == data else None

        return self.run(f"write {key} of {self.where}", put)

    def delete(self, keys: Iterable[str]) -> None:
        import obstore

        doomed = list(keys)
        if doomed:
            self.run(f"remove objects below {self.where}", lambda: obstore.delete(self._store, doomed))

    def sizes(self, below: str = "") -> dict[str, int]:
        import obstore

        def listed() -> dict[str, int]:
            parts = obstore.list(self._store, below.rstrip("/") or None)
            return {found["path"]: found["size"] for part in parts for found in part}

        return self.run(f"list {self.where}", listed)

    def arrays(self) -> StoreLike:
        from zarr.storage import ObjectStore

        return ObjectStore(self._connect(ARRAY_TRIES))

    def run(self, doing: str, act: Callable[[], T]) -> T:
        from obstore.exceptions import BaseError
        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception,
            sleep_using_event,
            stop_after_delay,
            stop_any,
            stop_when_event_set,
            wait_random_exponential,
        )

        patience = self._patience
        stop = patience.stop or threading.Event()

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if patience.on_trouble is not None and state.attempt_number == 1 and error is not None:
                patience.on_trouble(f"cannot {doing}: {_said(error)}")

        tries = Retrying(
            retry=retry_if_exception(_passes),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
            stop=stop_any(stop_after_delay(patience.seconds), stop_when_event_set(stop)),
            sleep=sleep_using_event(stop),
            before_sleep=failed,
            reraise=True,
        )
        try:
            return tries(act)
        except BaseError as error:
            raise CanvasError(f"cannot {doing}: {self._cause(error)}") from error

    def settle(self, key: str) -> None:
        """A put that has been answered is safe."""

    def _cause(self, error: Exception) -> str:
        """What went wrong, and what to do about it."""
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        said = _said(error)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return (
                f"the credentials are refused ({said}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or"
                " AWS_PROFILE, and that they may read and write there"
            )
        if self._patience.stop is not None and self._patience.stop.is_set():
            return f"stopped waiting ({said})"
        if _passes(error):
            return (
                f"no answer for {self._patience.seconds:g} s ({said}): is the store up,"
                " and are AWS_ENDPOINT_URL and AWS_DEFAULT_REGION right?"
            )
        return f"{said}: check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"

    def _refuse_no_bucket(self, error: Exception) -> None:
        if "<Code>NoSuchBucket</Code>" in str(error):
            bucket = split(self.where)[0]
            raise CanvasError(f"there is no bucket {bucket!r}: make it first, or check AWS_ENDPOINT_URL") from None


def _connect(bucket: str, prefix: str, answer: timedelta, retries: int) -> S3Store:
    """The bucket as boto3 would reach it. Makes no request, but may have to ask for credentials."""
    import boto3
    from botocore.configprovider import ConfiguredEndpointProvider
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    try:
        session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
        if session.get_credentials() is None:
            raise CanvasError(
                f"cannot use s3://{bucket}: no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
                " or AWS_PROFILE"
            )
        # What a client of boto3 would use, without the third of a second that making one takes.
        endpoint: str | None = ConfiguredEndpointProvider(
            session._session.full_config, session._session.get_scoped_config(), "s3"
        ).provide()
        elsewhere: S3Config = {"endpoint": endpoint} if endpoint else {}
        return S3Store(
            bucket,
            prefix=prefix,
            config=elsewhere,
            region=session.region_name or "us-east-1",
            credential_provider=Boto3CredentialProvider(session, ttl=FRESH),
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": (endpoint or "").startswith("http:"),
                "connect_timeout": CONNECT,
                "timeout": answer,
            },
            retry_config={"max_retries": retries},
        )
    except (BotoCoreError, BaseError, ValueError) as error:
        raise CanvasError(f"cannot use s3://{bucket}: {_said(error)}: check the AWS_ settings") from error


def _passes(error: BaseException) -> bool:
    """Whether this may go by itself: no connection, no answer, a server in trouble."""
    from obstore.exceptions import AlreadyExistsError, GenericError, JoinError, PreconditionError

    if not isinstance(error, GenericError | JoinError | AlreadyExistsError | PreconditionError):
        return False
    status = _status(error)
    if status is None:
        return isinstance(error, GenericError | JoinError) and "redirect" not in str(error)
    return status in _PASSING or status.startswith("5")


def _status(error: BaseException) -> str | None:
    found = _STATUS.search(str(error))
    return found[1] if found else None


def _said(error: BaseException) -> str:
    """In one line: what the server said, if it is that, else the first line of the error."""
    text = str(error)
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code:
        return f"{code[1]}: {message[1].rstrip('.')}" if message else code[1]
    server, system = _SERVER.search(text), _SYSTEM.search(text)
    if server and _status(error) is None:
        return f"{server[0]}: {system[1] if system else 'timed out' if 'Timeout' in text else 'no connection'}"
    return text.partition("\n")[0].strip() or type(error).__name__


def _etag(meta: Any) -> str:
    if not meta["e_tag"]:
        raise CanvasError("this S3 server gives no ETag: raytile needs one that does conditional writes")
    return str(meta["e_tag"])
