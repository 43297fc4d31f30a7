"""What a folder says of itself, and one clear line for every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytile.api import plan
from raytile.errors import InvalidModel
from raytile.models import registry
from raytile.models.folder import digest, read_spec
from raytile.models.parts import read_folder
from raytile.models.registry import available, load, resolve
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
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
    assert spec.path == "", "every installation has its own"
    assert (spec.encode_halo, spec.control) == (2, "")


def test_a_model_that_a_mask_steers(land_folder: Path, tmp_path: Path) -> None:
    spec = read_spec(land_folder)
    assert (spec.control, spec.channels) == ("land", 8)
    folder = Path(shutil.copytree(land_folder, tmp_path / "silent"))
    change(folder / "raytile.json", control=None)
    with pytest.raises(InvalidModel, match="takes 13 channels, the VAE has 8;"):
        read_spec(folder)
    change(folder / "raytile.json", control="sea")
    with pytest.raises(InvalidModel, match='control must be "land" or left away, not "sea"'):
        read_spec(folder)


def test_control_needs_its_channels(broken_terra: Path) -> None:
    change(broken_terra / "raytile.json", control="land")
    with pytest.raises(InvalidModel, match="takes 8 channels, the VAE has 8, a control has 5;"):
        read_spec(broken_terra)


def test_a_users_folder_may_be_called_terra(terra_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(terra_folder, tmp_path / "terra")
    spec = resolve(str(folder))
    assert (spec.name, spec.path) == ("terra", str(folder))
    assert load(spec).spec == spec


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


def test_a_file_is_hashed_once_until_it_changes(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    hash_file = hashlib.file_digest

    def note(stream: Any, kind: str) -> Any:
        read.append(Path(stream.name).relative_to(broken).as_posix())
        return hash_file(stream, kind)

    monkeypatch.setattr(hashlib, "file_digest", note)
    folder = read_folder(broken)
    first = digest(folder)
    assert sorted(read) == folder.files()
    read.clear()
    assert digest(folder) == first
    assert read == []
    config = broken / "vae/config.json"
    change(config, scaling_factor=0.5)
    assert digest(folder) != first
    assert read == ["vae/config.json"]


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


def index_beside(part: str, name: str) -> Callable[[Path], object]:
    """diffusers and transformers would load what the index names, not the file that was looked at."""
    return lambda folder: (folder / part / name).write_text('{"weight_map": {}}')


def no_offsets(folder: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [], "data_offsets": []}}).encode()
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)


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
    (index_beside("unet", "diffusion_pytorch_model.safetensors.index.json"), r"unet: sharded .*safetensors.index.json"),
    (index_beside("vae", "diffusion_pytorch_model.safetensors.index.fp16.json"), r"vae: sharded .*index.fp16.json"),
    (index_beside("unet", "diffusion_pytorch_model.fp16.safetensors.index.json"), r"unet: sharded .*fp16.safetensors"),
    (index_beside("text_encoder", "model.safetensors.index.json"), "text_encoder: sharded"),
    (index_beside("text_encoder", "adapter_config.json"), "text_encoder: adapters are not supported"),
    (no_offsets, "unet.*copy it again"),
    (lambda folder: change(folder / "vae/config.json", block_out_channels=4), "block_out_channels must be a list"),
    (lambda folder: change(folder / "unet/config.json", down_block_types=[]), "down_block_types must be a list"),
    (lambda folder: change(folder / "vae/config.json", latent_channels="4"), "latent_channels must be a whole number"),
    (lambda folder: change(folder / "unet/config.json", in_channels=[4]), "in_channels must be a whole number"),
    (lambda folder: change(folder / "unet/config.json", sample_size=[[8], {}]), "sample_size must be one whole number"),
    (lambda folder: change(folder / "unet/config.json", sample_size=0), "sample_size must be one whole number"),
    (lambda folder: change(folder / "scheduler/scheduler_config.json", _class_name=5), "_class_name must be words"),
    (lambda folder: change(folder / "scheduler/scheduler_config.json", prediction_type=[1]), "must be words"),
    (lambda folder: change(folder / "scheduler/scheduler_config.json", num_train_timesteps="x"), "num_train_timesteps"),
    (lambda folder: change(folder / "model_index.json", unet=["diffusers", 5]), "diffusers.5"),
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
        ({"prediction": ["flow"]}, "prediction differs"),
        ({"zooms": [{"phrase": "far"}]}, r'zooms must be like \[\{"scale": 0.5, "phrase": "region"\}\]'),
        ({"zooms": [{"phrase": "far", "scale": 0}]}, "scales above 0"),
        ({"zooms": [{"phrase": "far", "scale": float("inf")}]}, "scales above 0"),
        ({"zooms": [{"phrase": 3, "scale": 1}]}, "zooms must be like"),
        ({"zooms": 3}, "zooms must be like"),
        ({"guidance_interval": 3}, "two rising shares"),
        ({"guidance_interval": [0.5, 0.5]}, "two rising shares"),
        ({"guidance_interval": [-0.1, 0.5]}, "two rising shares"),
        ({"guidance_interval": [0.1, 1.5]}, "two rising shares"),
        ({"guidance_interval": ["0", "1"]}, "two rising shares"),
        ({"window": "wide"}, "window must be a whole number of at least 1"),
        ({"window": 9}, "no multiple"),
        ({"network_stride": 0}, "network_stride must be a whole number of at least 1"),
        ({"network_stride": 3}, "no multiple"),
        ({"decode_halo": -1}, "decode_halo must be a whole number of at least 0"),
        ({"decode_halo": True}, "decode_halo must be"),
        ({"micro_batch": 0}, "micro_batch must be a whole number from 1 to 256, not 0"),
        ({"micro_batch": 2.5}, "micro_batch must be"),
        ({"default_steps": 501}, "default_steps must be a whole number from 1 to 500"),
        ({"default_guidance": float("nan")}, "default_guidance must be"),
        ({"default_guidance": "7"}, "default_guidance must be"),
        ({"renoise": 0}, "renoise must be"),
        ({"renoise": 1.01}, "renoise must be"),
        ({"renoise": [1]}, "renoise must be"),
        ({"default_sampler": "ddim"}, "euler, dpmpp_2m"),
        ({"default_sampler": ["euler"]}, "euler, dpmpp_2m"),
    ],
)
def test_a_broken_raytile_json(broken_terra: Path, values: dict[str, Any], line: str) -> None:
    change(broken_terra / "raytile.json", **values)
    with pytest.raises(InvalidModel, match=line) as raised:
        read_spec(broken_terra)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("halo", ["9", -1, None, [9]])
def test_a_broken_halo_of_a_decoder(broken_terra: Path, halo: object) -> None:
    change(broken_terra / "vae/config.json", decode_halo=halo)
    with pytest.raises(InvalidModel, match="decode_halo"):
        read_spec(broken_terra)


def test_whole_numbers_will_do_for_shares(broken_terra: Path) -> None:
    change(broken_terra / "raytile.json", renoise=1, guidance_interval=[0, 1], default_guidance=3)
    spec = read_spec(broken_terra)
    assert (spec.renoise, spec.guidance_interval, spec.default_guidance) == (1.0, (0.0, 1.0), 3.0)
    assert json.dumps(spec.identity()["renoise"]) == "1.0"


def test_the_plan_names_a_folder_wherever_it_is_read_from(
    sd_folder: Path, terra_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its absolute path in the head, and not at all in the hash; built-in models by name."""

    def planned(model: str) -> Plan:
        return plan(RenderRequest(prompt="a", model=model, width=32, height=32))

    monkeypatch.chdir(sd_folder.parent)
    near, far = planned(f"./{sd_folder.name}"), planned(str(sd_folder))
    assert near.request.model == far.request.model == str(sd_folder)
    assert near.hash == far.hash
    assert planned("toy").request.model == "toy"
    assert planned("timed:seconds=0").request.model == "timed:seconds=0"
    monkeypatch.setattr(registry, "TERRA", terra_folder)
    assert planned("terra").request.model == "terra"


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
