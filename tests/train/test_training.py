"""Laws of the trainers: stopping changes nothing, and what is shipped is whole, small and free of pickles."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from raytile.errors import InvalidRequest
from raytile.models.autoencoder import LinearStartAutoencoder, decode_halo
from raytile.train.autoencoder import AutoencoderRecipe, train_stage_a
from raytile.train.bank import encoder_digest, grow_bank, load_bank
from raytile.train.captions import ALIKE, LENGTH, ZOOM_PHRASES, build_tokenizer
from raytile.train.cli import app
from raytile.train.crops import Crop, draw_crop
from raytile.train.decoder import DecoderRecipe, train_stage_b
from raytile.train.denoiser import Denoiser, DenoiserRecipe, draw_times, new_text_encoder, start_alike, train_denoiser
from raytile.train.release import read_release, write_release
from raytile.train.sheet import Painter, Sampling, from_windows, paint, to_windows
from raytile.train.stages import average_of, saved_autoencoder
from raytile.train.state import load_state
from raytile.train.world import SCALES, World

TINY = DenoiserRecipe(widths=(16, 32), batch=2, warm_up=2, steps=4)


def tiny_autoencoder() -> LinearStartAutoencoder:
    torch.manual_seed(0)
    model: LinearStartAutoencoder = LinearStartAutoencoder(
        width=16, encoder_blocks=1, decoder_blocks=1, fine_width=4, fine_blocks=1, decode_halo=decode_halo(1, 1)
    )
    return model


def stop_after(steps: int) -> dict[str, object]:
    """A clock by which exactly so many steps fit in (it is read once before, then at two places a step)."""
    ticks = count()
    return {"seconds": 2 * steps + 0.5, "clock": lambda: float(next(ticks)), "save_every": 1e9}


def quiet(_: str) -> None:
    """Training is silent in tests."""


def same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.equal(second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, list):
        return isinstance(second, list) and len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.fixture(scope="module")
def banked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    grow_bank(world, tiny_autoencoder(), folder, 4, shard=2)
    return folder


def test_autoencoder_stopped_and_resumed_is_the_uninterrupted_one(world: World, tmp_path: Path) -> None:
    recipe = AutoencoderRecipe(steps=4, batch=1, size=64, warm_up=2, exact_from=0.5)
    train_stage_a(world, tmp_path / "whole", recipe, 1e9, model=tiny_autoencoder, say=quiet)
    for _ in range(2):
        limits = stop_after(2)
        train_stage_a(world, tmp_path / "parts", recipe, model=tiny_autoencoder, say=quiet, **limits)  # type: ignore[arg-type]
    assert same(load_state(tmp_path / "whole/autoencoder.pt"), load_state(tmp_path / "parts/autoencoder.pt"))
    assert not list(tmp_path.glob("*/*.pid"))


def test_decoder_stage_resumes_and_leaves_the_encoder_alone(world: World, tmp_path: Path) -> None:
    recipe = AutoencoderRecipe(steps=2, batch=1, size=64)
    stage_b = DecoderRecipe(steps=4, decay_from=2, batch=1, size=64, judge_warm_up=1)
    for name in ("whole", "parts"):
        train_stage_a(world, tmp_path / name, recipe, 1e9, model=tiny_autoencoder, say=quiet)
    train_stage_b(world, tmp_path / "whole", stage_b, 1e9, say=quiet)
    for _ in range(2):
        train_stage_b(world, tmp_path / "parts", stage_b, say=quiet, **stop_after(2))  # type: ignore[arg-type]
    whole, parts = load_state(tmp_path / "whole/decoder.pt"), load_state(tmp_path / "parts/decoder.pt")
    assert same(whole, parts)
    before = load_state(tmp_path / "whole/autoencoder.pt")
    assert whole is not None
    assert before is not None
    for name, weight in before["model"].items():
        half = name.startswith(("linear_in", "encoder"))
        assert weight.equal(whole["model"][name]) == half or not name.startswith("decoder")


def test_denoiser_stopped_and_resumed_is_the_uninterrupted_one(banked: Path, tmp_path: Path) -> None:
    bank = load_bank(banked, encoder_digest(tiny_autoencoder()))
    train_denoiser(bank, tmp_path / "whole", TINY, 1e9, say=quiet)
    for _ in range(2):
        train_denoiser(bank, tmp_path / "parts", TINY, say=quiet, **stop_after(2))  # type: ignore[arg-type]
    assert same(load_state(tmp_path / "whole/denoiser.pt"), load_state(tmp_path / "parts/denoiser.pt"))


def test_a_release_is_of_what_was_trained_last(banked: Path, tmp_path: Path) -> None:
    bank = load_bank(banked, encoder_digest(tiny_autoencoder()))
    train_denoiser(bank, tmp_path, TINY, 1e9, say=quiet)
    train_denoiser(bank, tmp_path, replace(TINY, steps=5), 1e9, name="decay", start="denoiser", say=quiet)
    for last, steps in (("decay", 5), ("denoiser", 6)):
        train_denoiser(bank, tmp_path, replace(TINY, steps=steps), 1e9, name=last, say=quiet)
        state = load_state(tmp_path / f"{last}.pt")
        assert state is not None
        assert same(dict(average_of(tmp_path).state_dict()), dict(state["ema"]))


def test_a_bank_grows_shard_by_shard_and_belongs_to_its_encoder(world: World, banked: Path) -> None:
    model = tiny_autoencoder()
    bank = load_bank(banked, encoder_digest(model))
    assert bank.latents.shape == (4, 8, 32, 32)
    assert np.array_equal(np.unpackbits(bank.land[3], axis=1), draw_crop(world, 1, 3).land)
    asked: list[int] = []

    def spy(world: World, seed: int, number: int) -> Crop:
        asked.append(number)
        return draw_crop(world, seed, number)

    grow_bank(world, model, banked, 6, shard=2, crop=spy)
    assert asked == [4, 5]
    assert np.array_equal(load_bank(banked, encoder_digest(model)).latents[:4], bank.latents)
    with torch.no_grad():
        model.linear_in.weight.add_(1.0)
    with pytest.raises(InvalidRequest, match="grow one"):
        load_bank(banked, encoder_digest(model))


def test_times_reach_one_and_stay_in_reach() -> None:
    times = draw_times(torch.Generator().manual_seed(0), 4000)
    assert float(times.max()) == 1.0
    assert float(times.min()) > 0.0
    assert 0.005 < float((times == 1.0).float().mean()) < 0.04


def test_a_release_loads_paints_and_holds_no_pickle(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Denoiser(TINY, len(build_tokenizer())).eval()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "README.md").write_text("kept")
    for _ in range(2):
        write_release(tmp_path / "m", net, tiny_autoencoder())
    assert (tmp_path / "m" / "README.md").read_text() == "kept"
    files = {file.relative_to(tmp_path / "m").as_posix() for file in (tmp_path / "m").rglob("*") if file.is_file()}
    assert {file.rsplit(".", 1)[1] for file in files} == {"json", "safetensors", "md"}
    assert {"unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"} <= files
    assert not list(tmp_path.glob("*.part"))
    painter = Painter(*read_release(tmp_path / "m"))
    noise = torch.randn(2, 8, 32, 32, generator=torch.Generator().manual_seed(2))
    latents = paint(painter, ["whole planet", ""], noise, Sampling(steps=2, guidance=2.0, interval=(0.0, 1.0)))
    assert latents.isfinite().all()
    with torch.no_grad():
        states = net.text(build_tokenizer()("", padding="max_length", return_tensors="pt").input_ids)[0]
    assert states.shape == (1, LENGTH, 128)
    torch.testing.assert_close(painter.states([""]), states, atol=2e-2, rtol=0)


def test_zooms_have_one_phrase_each() -> None:
    assert len(set(ZOOM_PHRASES)) == len(SCALES) == len(ZOOM_PHRASES)


def test_windows_come_back() -> None:
    x = torch.randn(2, 8, 64, 96, generator=torch.Generator().manual_seed(3))
    windows, tall, wide = to_windows(x)
    assert windows.shape == (12, 8, 32, 32)
    assert windows[1].equal(x[0, :, :32, 32:64])
    assert from_windows(windows, tall, wide).equal(x)


def test_words_of_one_meaning_start_alike() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text = new_text_encoder(len(tokenizer))
    start_alike(text, tokenizer)
    table = text.get_input_embeddings().weight.detach()
    firsts = table[tokenizer.convert_tokens_to_ids([group[0] for group in ALIKE])]
    seconds = table[tokenizer.convert_tokens_to_ids([group[1] for group in ALIKE])]
    likeness = torch.nn.functional.cosine_similarity(firsts[:, None], seconds[None], dim=2)
    assert float(likeness.diagonal().min()) > 0.8
    assert float((likeness - torch.diag(likeness.diagonal())).max()) < 0.5
    words = [word for group in ALIKE for word in group]
    assert len(set(words)) == len(words)
    assert set(words) <= set(tokenizer.get_vocab())


def test_a_release_is_restored_as_it_is_and_trained_on(world: World, tmp_path: Path) -> None:
    torch.manual_seed(2)
    net, out, state = Denoiser(TINY, len(build_tokenizer())), tmp_path / "m", tmp_path / "state"
    write_release(out, net, tiny_autoencoder())
    restore = ["terra", "--stage", "restore", "--out", str(out), "--state", str(state)]
    assert CliRunner().invoke(app, restore).exit_code == 0
    unet, vae, text, _ = read_release(out)
    restored = average_of(state)
    assert same(dict(restored.unet.state_dict()), dict(unet.state_dict()))
    assert same(dict(restored.text.state_dict()), dict(text.state_dict()))
    assert encoder_digest(saved_autoencoder(state)) == encoder_digest(vae)
    train_stage_a(world, state, AutoencoderRecipe(), 1e9, say=quiet)  # nothing is left to do in it
    assert same(dict(saved_autoencoder(state).state_dict()), dict(vae.state_dict()))

    grow_bank(world, saved_autoencoder(state), state / "bank", 2, shard=2)
    bank = load_bank(state / "bank", encoder_digest(vae))
    train_denoiser(bank, state, replace(TINY, steps=2), 1e9, say=quiet)
    assert not same(dict(average_of(state).unet.state_dict()), dict(unet.state_dict()))
    again = CliRunner().invoke(app, restore)
    assert isinstance(again.exception, InvalidRequest)
    assert "go on with --stage denoiser" in str(again.exception)


def test_a_stage_without_the_one_before_it_says_which(tmp_path: Path) -> None:
    for stage in ("denoiser", "decay", "release"):
        answer = CliRunner().invoke(app, ["terra", "--stage", stage, "--state", str(tmp_path), "--minutes", "0"])
        assert isinstance(answer.exception, InvalidRequest)
        assert "run --stage" in str(answer.exception)
