"""What every test needs: an environment that leaves the user's alone, and one Ray for the whole session."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

from tests.s3 import s3 as s3  # a fixture

# Before anything imports torch or Ray: they read these once.
_SCRATCH = tempfile.mkdtemp(prefix="raytile-tests-", dir="/tmp")
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
os.environ.update(
    HOME=_SCRATCH,
    RAY_TMPDIR=_SCRATCH,
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
)
os.environ.pop("RAY_ADDRESS", None)
hypothesis.settings.register_profile("untimed", deadline=None)  # tests state laws; a busy machine breaks none
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A local Ray with eight slots; its address. Renders of this process use it, and leave it running."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=8,
        num_gpus=0,
        object_store_memory=256 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    yield context.address_info["address"]
    ray.shutdown()
