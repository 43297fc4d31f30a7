"""Submit a raytile command as a Ray job, follow its log, and submit it again if it fails.

    python submit.py [--address http://127.0.0.1:8265] [--tries 3] [--id NAME] [--working-dir FOLDER] -- \\
        raytile render "painted earth, islands" --size 8192x4096 --wrap x --out s3://maps/earth.zarr --resume

The command must be safe to repeat: `raytile render ... --resume` and `raytile batch ...` are. Ctrl-C stops the job;
the canvas stays, and the same line goes on with it. With --id this script is safe to repeat, too: it follows the job of
that name if there is one that lives or has succeeded, and submits it anew if not. The exit code is the command's (130
after a stop).
"""

from __future__ import annotations

import argparse
import asyncio
import os
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


def known(client: JobSubmissionClient, job: str) -> bool:
    """Whether there is a job of that name to be followed; one that failed or was stopped makes room."""
    if job not in {found.submission_id for found in client.list_jobs()}:
        return False
    status = client.get_job_info(job).status
    if status.is_terminal() and status != JobStatus.SUCCEEDED:
        client.delete_job(job)
        return False
    print(f"job {job} is there: {status.value}", flush=True)
    return True


def run(client: JobSubmissionClient, command: str, tries: int, name: str | None, folder: str | None) -> int:
    """Submit until it succeeds; what raytile refuses (exit code 2) would be refused again."""
    code = 1
    for number in range(1, tries + 1):
        if name is not None and known(client, name):
            job = name
        else:
            job = client.submit_job(
                entrypoint=command,
                submission_id=name,
                metadata={"try": str(number)},
                runtime_env={} if folder is None else {"working_dir": folder},
            )
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
    parser.add_argument(
        "--address",
        default=os.environ.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"),
        help="of the cluster's dashboard; RAY_API_SERVER_ADDRESS",
    )
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--id", help="the job's name: whoever asks for it twice gets one job")
    parser.add_argument("--working-dir", help="a folder that the job is to have with it")
    parser.add_argument("command", nargs="+", help="after --: the command, raytile render or raytile batch")
    asked = parser.parse_args()
    client = JobSubmissionClient(asked.address)
    return run(client, shlex.join(asked.command), asked.tries, asked.id, asked.working_dir)


if __name__ == "__main__":
    sys.exit(main())
