"""Links to objects in a bucket that hold for a while, for whoever has no key of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from raytile.canvas.disk import explained
from raytile.canvas.place import split
from raytile.errors import CanvasError


def put_file(file: Path, url: str, media_type: str) -> None:
    """Store a file of any size at s3://BUCKET/KEY. Raises `CanvasError`."""
    bucket, key = split(url)
    with explained(f"write {url}"):
        try:
            _client().upload_file(str(file), bucket, key, ExtraArgs={"ContentType": media_type})
        except _errors() as error:
            raise CanvasError(f"cannot write {url}: {error}") from None


def link(url: str, seconds: float, media_type: str, name: str) -> str:
    """A link to the object at `url`, by which it is saved as `name`. Raises `CanvasError`."""
    bucket, key = split(url)
    wanted = {
        "Bucket": bucket,
        "Key": key,
        "ResponseContentType": media_type,
        "ResponseContentDisposition": f'attachment; filename="{name}"',
    }
    try:
        found: str = _client().generate_presigned_url("get_object", Params=wanted, ExpiresIn=max(1, int(seconds)))
    except _errors() as error:
        raise CanvasError(f"cannot sign a link to {url}: {error}") from None
    return found


def _client() -> Any:
    import boto3
    from botocore.config import Config

    # A session of its own, for the environment as it is now; boto3 does not read AWS_REGION, which counts here.
    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    return session.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


def _errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError
