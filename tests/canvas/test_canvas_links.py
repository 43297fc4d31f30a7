"""Links to objects in a bucket are signed for the region and the server that all else goes by."""

from __future__ import annotations

import pytest

from raytile.canvas.links import link


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_link_is_signed_for_the_region_of_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "eu-central-1")
    assert "%2Feu-central-1%2Fs3%2F" in link("s3://maps/a.png", 60, "image/png", "a.png")


def test_a_server_of_its_own_may_be_named_for_s3_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert link("s3://maps/a.png", 60, "image/png", "a.png").startswith("http://127.0.0.1:9/maps/a.png?")
