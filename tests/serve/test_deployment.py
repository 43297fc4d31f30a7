"""What Ray Serve's own tools are given."""

from __future__ import annotations

from pathlib import Path

import pytest

import raytile.serve
from raytile.errors import InvalidRequest


def test_app_and_builder_are_applications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import serve

    from raytile.serve.deployment import Args

    monkeypatch.setenv("RAYTILE_STORE", str(tmp_path))
    assert isinstance(raytile.serve.app, serve.Application)
    assert isinstance(raytile.serve.build(Args(replicas=2, settings={"max_steps": 7})), serve.Application)
    with pytest.raises(InvalidRequest, match=r"max_stepz"):
        raytile.serve.build(Args(settings={"max_stepz": 7}))
    with pytest.raises(AttributeError):
        raytile.serve.nothing  # noqa: B018 (reading it is the test)


def test_where_proxies_listen_is_not_known_so_keys_are_wanted() -> None:
    from raytile.serve.deployment import Args

    with pytest.raises(InvalidRequest, match="loopback"):
        raytile.serve.build(Args(settings={"keys": "off"}))
    assert raytile.serve.build(Args(settings={"keys": "off", "host": "127.0.0.1"}))
