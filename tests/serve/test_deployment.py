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


def test_ray_gives_the_builder_what_stands_in_a_configuration(tmp_path: Path) -> None:
    from ray import serve
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as build

    said = {"replicas": "2", "settings": {"store": str(tmp_path)}}
    assert isinstance(build(raytile.serve.build, said), serve.Application)
    for wrong, words in (
        ({"replcas": 2}, "args: replcas: Extra inputs"),
        ({"replicas": 0}, "args: replicas: Input should be greater"),
        ({"settings": {"max_stepz": 7}}, "max_stepz"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            build(raytile.serve.build, wrong)
