"""A real S3 server for tests and acceptance lines: SeaweedFS on loopback, with data of its own.

The fixture `s3` is one server for the whole session; `serving` is the same as a context manager."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET, REGION, BUCKET = "raytile-tests", "not-a-secret", "us-east-1", "pictures"
READY = 120.0  # seconds; it takes about twenty on a busy machine


class Server:
    """`start()` and `stop()` it as often as you like: it keeps its data and its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, *self._ports = free_ports(8)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        (folder / "data").mkdir(parents=True)
        identity = {
            "name": "raytile",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        master, master_rpc, volume, volume_rpc, filer, filer_rpc, rpc = self._ports
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "server"),
                    *(f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                    *(f"-master.port={master}", f"-master.port.grpc={master_rpc}", "-master.volumeSizeLimitMB=256"),
                    *(
                        f"-volume.port={volume}",
                        f"-volume.port.grpc={volume_rpc}",
                        "-volume.max=20",
                        "-master.telemetry=false",
                    ),
                    *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}"),
                    *("-s3", f"-s3.port={self.port}", f"-s3.port.grpc={rpc}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
                    f"-s3.config={self.folder / 's3.json'}",
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + READY
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self.folder / "log.txt").read_text(errors="replace").splitlines()[-15:]
                raise RuntimeError("\n".join(("no S3 server:", *said)))
            time.sleep(0.1)

    def stop(self) -> None:
        """End it at once, with everything it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def make_bucket(self) -> str:
        """Make the bucket, once the server takes it; its URL."""
        end = time.monotonic() + READY
        while True:
            try:
                self.client().create_bucket(Bucket=BUCKET)
                return f"s3://{BUCKET}"
            except Exception:  # the parts of the server find each other a little later
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def client(self) -> Any:
        """A boto3 client of this server."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code == 403
        except OSError:
            return False
        return True


@contextmanager
def serving() -> Iterator[Server]:
    """A server with an empty bucket, `s3://pictures`, and the environment of this process (and its children) set."""
    folder = Path(tempfile.mkdtemp(prefix="raytile-s3-", dir="/tmp"))
    server = Server(folder)
    before = {name: os.environ.get(name) for name in (*server.environment, "AWS_PROFILE", "AWS_SESSION_TOKEN")}
    try:
        server.start()
        server.make_bucket()
        os.environ.update(server.environment)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """One S3 server for the whole session."""
    with serving() as server:
        yield server


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that outgoing connections are given, so that they stay free."""
    found: set[int] = set()
    while len(found) < count:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            found.add(int(probe.getsockname()[1]))
    return [*found]
