"""Submit a raytile command as a Ray job, follow its log, and submit it again if it fails.

    python submit.py [--address http://127.0.0.1:8265] [--tries 3] -- \\
        raytile render "painted earth, islands" --size 8192x4096 --wrap x --out s3://maps/earth.zarr --resume

The command must be safe to repeat: `raytile render ... --resume` and `raytile batch ...` are. Ctrl-C stops the job;
the canvas stays, and the same line goes on with it. The exit code is the command's (130 after a stop).
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

REFUSED = 2
STOPPED = 130


async def follow(client: JobSubmissionClient, job: str) -> JobDetails:
    """Print the job's log as it grows, until the job is over; returns what Ray says of it then."""
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)
    return over(client, job)


def over(client: JobSubmissionClient, job: str) -> JobDetails:
    """Wait for the job to be over."""
    while not client.get_job_info(job).status.is_terminal():
        time.sleep(0.2)
    return client.get_job_info(job)


def run(client: JobSubmissionClient, command: str, tries: int) -> int:
    """Submit until it succeeds; what raytile refuses (exit code 2) would be refused again."""
    code = 1
    for number in range(1, tries + 1):
        job = client.submit_job(entrypoint=command, metadata={"try": str(number)})
        print(f"job {job}: {command}", flush=True)
        try:
            details = asyncio.run(follow(client, job))
        except KeyboardInterrupt:
            client.stop_job(job)
            over(client, job)
            print(client.get_job_logs(job).splitlines()[-1])
            return STOPPED
        if details.status == JobStatus.SUCCEEDED:
            return 0
        code = details.driver_exit_code or 1
        if details.status == JobStatus.STOPPED or code == STOPPED:  # somebody wanted that: ray job stop, raytile cancel
            return STOPPED
        if code == REFUSED:
            return code
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="of the cluster's dashboard")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("command", nargs="+", help="after --: the command, raytile render or raytile batch")
    asked = parser.parse_args()
    return run(JobSubmissionClient(asked.address), shlex.join(asked.command), asked.tries)


if __name__ == "__main__":
    sys.exit(main())
