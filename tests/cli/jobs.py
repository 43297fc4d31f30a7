"""A Ray head that takes jobs, on loopback and ports of its own, for tests and acceptance."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def job_head(folder: Path, cpus: int = 3, **environment: str) -> Iterator[str]:
    """Start a head with its dashboard, which is what jobs are submitted to; its address. Ended by its process group.

    `environment` is that of the jobs too."""
    ports = {name: free_port() for name in ("--port", "--dashboard-port", "--dashboard-agent-listen-port")}
    address = f"http://127.0.0.1:{ports['--dashboard-port']}"
    command = [str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"]
    command += ["--dashboard-host=127.0.0.1", "--object-store-memory=134217728", "--disable-usage-stats"]
    command += [f"{name}={port}" for name, port in ports.items()]
    path = f"{BIN}:{os.environ['PATH']}"  # jobs run the commands that the head's path has
    with open(folder / "head.log", "w") as log:
        head = subprocess.Popen(
            command, env={**os.environ, "PATH": path, **environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield _ready(address, head, folder / "head.log", environment.get("RAY_AUTH_TOKEN"))
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


def _ready(address: str, head: subprocess.Popen[bytes], log: Path, token: str | None) -> str:
    """Wait until jobs can be submitted: the head answers before it has an agent that starts them."""
    from ray.job_submission import JobSubmissionClient

    # By itself Ray would send what this process was told when it first spoke to any Ray.
    headers = {"Authorization": f"Bearer {token}"} if token else None
    deadline = time.monotonic() + 120
    while True:
        try:
            client = JobSubmissionClient(address, headers=headers)
            job = client.submit_job(entrypoint="true")
            wait_over(client, job)
            client.delete_job(job)
            return address
        except Exception:  # of many kinds, until the agent is up
            if head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray takes no jobs: {log.read_text()[-2000:]}") from None
            time.sleep(0.5)


def wait_for(client: Any, job: str, words: str, seconds: float = 90) -> str:
    """Wait until the job's log has these words; the log."""
    deadline = time.monotonic() + seconds
    while words not in (log := client.get_job_logs(job)):
        info = client.get_job_info(job)
        if info.status.is_terminal() or time.monotonic() > deadline:
            raise AssertionError(f"{info.status}, {info.message}, without {words!r}: {log}")
        time.sleep(0.1)
    return str(log)


def wait_over(client: Any, job: str, seconds: float = 90) -> Any:
    """Wait until the job is over; what Ray says of it."""
    deadline = time.monotonic() + seconds
    while not (info := client.get_job_info(job)).status.is_terminal():
        if time.monotonic() > deadline:
            raise AssertionError(f"{info.status} after {seconds} s: {client.get_job_logs(job)}")
        time.sleep(0.1)
    return info
