"""What a folder says of itself, and one clear line for every way in which it can be wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytile.errors import InvalidModel
from raytile.models.folder import read_spec
from raytile.models.parts import read_folder
from raytile.models.registry import available, load, resolve
from raytile.plan.spec import Zoom
from tests.models.make_tiny import tiny_stable_diffusion


@pytest.fixture
def broken(sd_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(sd_folder, tmp_path / "broken"))


@pytest.fixture
def broken_terra(terra_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(terra_folder, tmp_path / "broken-terra"))


def change(file: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)


def test_stable_diffusion_spec(sd_folder: Path) -> None:
    spec = read_spec(sd_folder)
    assert (spec.name, spec.kind, spec.path) == ("tiny-sd", "folder", str(sd_folder))
    assert (spec.channels, spec.factor, spec.window, spec.network_stride, spec.decode_halo) == (4, 4, 8, 2, 16)
    assert (spec.prediction, spec.default_sampler, spec.default_steps) == ("epsilon", "ddim", 30)
    assert (spec.default_guidance, spec.guidance_interval, spec.micro_batch) == (7.5, (0.0, 1.0), 4)
    assert (spec.renoise, spec.zooms) == (0.65, ())
    weights = sum(file.stat().st_size for file in sd_folder.glob("*/*.safetensors"))
    assert spec.weights_bytes == weights > 1_000_000


def test_terra_spec(terra_folder: Path) -> None:
    spec = read_spec(terra_folder, "terra")
    assert (spec.name, spec.channels, spec.factor, spec.window, spec.network_stride) == ("terra", 8, 8, 8, 2)
    assert (spec.prediction, spec.default_sampler, spec.default_steps) == ("flow", "euler", 6)
    assert (spec.default_guidance, spec.guidance_interval, spec.micro_batch) == (2.5, (0.2, 0.8), 4)
    assert spec.zooms == (Zoom(0.5, "far"), Zoom(1.0, "near"))
    assert spec.decode_halo == json.loads((terra_folder / "vae/config.json").read_text())["decode_halo"]


def test_velocity_and_a_factor_of_eight(tmp_path: Path) -> None:
    spec = read_spec(tiny_stable_diffusion(tmp_path / "v", window=16, factor=8, prediction="v_prediction"))
    assert (spec.prediction, spec.factor, spec.window) == ("v_prediction", 8, 16)


def test_digest_is_of_names_and_contents(sd_folder: Path, broken: Path) -> None:
    spec = read_spec(sd_folder)
    assert read_spec(broken).digest == spec.digest
    (broken / "README.md").write_text("a card")
    assert read_spec(broken).digest == spec.digest
    weights = broken / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = read_spec(broken)
    assert changed.digest != spec.digest
    assert changed.identity() != spec.identity()
    change(broken / "scheduler/scheduler_config.json", steps_offset=0)
    assert read_spec(broken).digest != changed.digest


def test_fp16_file_names_are_accepted(broken: Path) -> None:
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        rename(broken / part, f"{stem}.safetensors", f"{stem}.fp16.safetensors")
    spec = read_spec(broken)
    module = load(spec)
    assert module.encode_prompts(["a"])[0]["text"].shape == (16, 32)


def cut_weights(folder: Path) -> None:
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def no_header(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x10\0\0\0")


def html_page(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").write_text("<html>404: no such file</html>" * 9)


def pickled(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")


def sharded(folder: Path) -> None:
    rename(folder / "unet", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json")


def not_json(folder: Path) -> None:
    (folder / "vae/config.json").write_text("{")


def no_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


BREAKS: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "model_index.json").unlink(), "not a diffusers folder.*model_index.json"),
    (lambda folder: shutil.rmtree(folder / "unet"), "part unet is missing"),
    (lambda folder: shutil.rmtree(folder / "vae"), "part vae is missing"),
    (lambda folder: shutil.rmtree(folder / "text_encoder"), "part text_encoder is missing"),
    (lambda folder: shutil.rmtree(folder / "scheduler"), "part scheduler is missing"),
    (no_tokenizer, "part tokenizer is missing"),
    (lambda folder: (folder / "text_encoder/model.safetensors").unlink(), "text_encoder is missing"),
    (lambda folder: change(folder / "model_index.json", vae=None), "vae is missing in model_index"),
    (lambda folder: change(folder / "model_index.json", vae=["diffusers", "AutoencoderTiny"]), "AutoencoderKL"),
    (lambda folder: change(folder / "model_index.json", unet=["my_code", "Net"]), "runs no foreign code"),
    (lambda folder: change(folder / "model_index.json", scheduler=["my_code", "Mine"]), "runs no foreign code"),
    (lambda folder: change(folder / "model_index.json", unet="UNet2DConditionModel"), r"\[library, class\]"),
    (lambda folder: change(folder / "model_index.json", text_encoder_2=["transformers", "X"]), "SDXL.*not supported"),
    (lambda folder: change(folder / "unet/config.json", addition_embed_type="text_time"), "SDXL.*not supported"),
    (lambda folder: change(folder / "unet/config.json", in_channels=9), "inpainting"),
    (lambda folder: change(folder / "unet/config.json", time_cond_proj_dim=256), "time_cond_proj_dim"),
    (lambda folder: change(folder / "unet/config.json", cross_attention_dim=64), "width 64"),
    (lambda folder: change(folder / "unet/config.json", sample_size=[8, 16]), "sample_size"),
    (lambda folder: change(folder / "unet/config.json", sample_size=9), "no multiple"),
    (lambda folder: change(folder / "unet/config.json", in_channels=None), "in_channels"),
    (lambda folder: change(folder / "scheduler/scheduler_config.json", prediction_type="guess"), "prediction_type"),
    (cut_weights, "vae.*copy it again"),
    (no_header, "cut short"),
    (html_page, "cut short"),
    (pickled, r"pickled weights only \(diffusion_pytorch_model.bin\): convert to safetensors"),
    (sharded, "sharded"),
    (not_json, "vae/config.json cannot be read as JSON"),
]


@pytest.mark.parametrize(("damage", "line"), BREAKS, ids=[line for _, line in BREAKS])
def test_a_broken_folder_names_its_part_and_the_fix(broken: Path, damage: Callable[[Path], object], line: str) -> None:
    damage(broken)
    with pytest.raises(InvalidModel, match=line) as raised:
        read_spec(broken)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"windw": 32}, "unknown key 'windw'"),
        ({"prediction": "epsilon"}, "prediction differs"),
        ({"zooms": [{"phrase": "far"}]}, "malformed"),
        ({"guidance_interval": 3}, "malformed"),
        ({"window": "wide"}, "malformed"),
        ({"micro_batch": 0}, "positive"),
        ({"default_sampler": "ddim"}, "euler, dpmpp_2m"),
    ],
)
def test_a_broken_raytile_json(broken_terra: Path, values: dict[str, Any], line: str) -> None:
    change(broken_terra / "raytile.json", **values)
    with pytest.raises(InvalidModel, match=line):
        read_spec(broken_terra)


def test_no_such_model_lists_those_there_are() -> None:
    with pytest.raises(InvalidModel, match=r"terra, toy, timed.*diffusers folder"):
        resolve("stable-diffusion")


def test_a_single_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(InvalidModel, match="convert it to a diffusers folder"):
        resolve(str(tmp_path / "model.ckpt"))
    with pytest.raises(InvalidModel, match="no such model folder"):
        read_folder(tmp_path / "nowhere")


def test_a_folder_that_changed_since_the_plan_is_not_loaded(broken: Path) -> None:
    spec = resolve(str(broken))
    change(broken / "scheduler/scheduler_config.json", steps_offset=0)
    with pytest.raises(InvalidModel, match="not the model that was planned with"):
        load(spec)


@pytest.mark.parametrize("kind", ["sd_folder", "terra_folder"])
def test_loading_touches_no_network(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load(resolve(str(request.getfixturevalue(kind)))).encode_prompts(["a"])


def test_built_in_models_are_listed() -> None:
    assert {"toy", "timed"} <= {spec.name for spec in available()}


def test_specs_are_read_without_heavy_imports(sd_folder: Path) -> None:
    """The driver plans without torch."""
    code = (
        "import sys; from raytile.models.registry import available, resolve;"
        f"resolve({str(sd_folder)!r}); resolve('toy'); available();"
        "bad = {'torch', 'diffusers', 'transformers', 'ray', 'zarr'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
