"""The stages of training `terra` as plain functions over one folder of state."""

from __future__ import annotations

from pathlib import Path

from raytile.errors import InvalidRequest
from raytile.models.autoencoder import LinearStartAutoencoder
from raytile.train.autoencoder import AutoencoderRecipe, train_stage_a
from raytile.train.bank import encoder_digest, grow_bank, load_bank
from raytile.train.captions import ZOOM_PHRASES, build_tokenizer
from raytile.train.decoder import DecoderRecipe, train_stage_b
from raytile.train.denoiser import Denoiser, DenoiserRecipe, train_denoiser
from raytile.train.doubling import fit_doubling, write_doubling
from raytile.train.nearest import Match, nearest_sheet
from raytile.train.preview import decoded, fit_preview, write_preview
from raytile.train.release import read_release, write_release
from raytile.train.sheet import PROMPTS, Painter, make_sheet, paint, save_picture
from raytile.train.state import load_state, save_state
from raytile.train.turns import fit_turns, write_turns
from raytile.train.world import STYLES, load_world

STYLE_PHRASES = {"satellite": "satellite view", "relief": "relief map"}


def saved_autoencoder(folder: Path) -> LinearStartAutoencoder:
    """The autoencoder as far as it came: with stage B's decoder where there is one.

    Raises InvalidRequest where no stage was run.
    """
    base = load_state(folder / "autoencoder.pt")
    if base is None:
        raise InvalidRequest(f"no autoencoder in {folder}: run --stage autoencoder first")
    crisp = load_state(folder / "decoder.pt")
    model: LinearStartAutoencoder = LinearStartAutoencoder(**base["config"])
    model.load_state_dict((crisp or base)["model"])
    model.eval()
    return model


def restore(model: Path, folder: Path) -> None:
    """Begin again from a released model, where the state that made it is gone: its autoencoder as it is, its denoiser
    with an optimizer that knows nothing yet, so that the rate warms up anew.

    Raises InvalidRequest where there is state already.
    """
    there = [name for name in ("autoencoder", "denoiser") if (folder / f"{name}.pt").exists()]
    if there:
        raise InvalidRequest(f"{folder} has {there[0]}.pt: go on with --stage {there[-1]}, or name another --state")
    unet, vae, text, _ = read_release(model)
    config = {key: value for key, value in vae.config.items() if not key.startswith("_")}
    steps = AutoencoderRecipe().steps  # that stage is over
    save_state(folder / "autoencoder.pt", {"model": vae.state_dict(), "config": config, "step": steps})
    recipe = DenoiserRecipe(widths=tuple(unet.config["block_out_channels"]))
    net = Denoiser(recipe, len(build_tokenizer()), int(config["latent_channels"]))
    net.unet.load_state_dict(unet.state_dict())
    net.text.load_state_dict(text.state_dict())
    weights, facts = net.state_dict(), {"widths": list(recipe.widths), "encoder": encoder_digest(vae)}
    save_state(folder / "denoiser.pt", {"model": weights, "ema": weights, "step": 0, **facts})


def autoencoder(folder: Path, seconds: float) -> None:
    """Stage A; sets the scaling factor at its end, after which the encoder is not trained again."""
    import torch

    from raytile.train.autoencoder import draw_batch

    world = load_world(folder)
    model = train_stage_a(world, folder, AutoencoderRecipe(), seconds)
    state = load_state(folder / "autoencoder.pt")
    assert state is not None
    with torch.no_grad():
        squares = [model.encode(draw_batch(world, 99, i, 8, 128)).square().mean() for i in range(32)]
    state["config"]["scaling_factor"] = round(float(torch.stack(squares).mean().rsqrt()), 5)
    save_state(folder / "autoencoder.pt", state)


def decoder(folder: Path, seconds: float) -> None:
    """Stage B."""
    train_stage_b(load_world(folder), folder, DecoderRecipe(), seconds)


def bank(folder: Path, crops: int) -> None:
    """Encode crops for the denoiser."""
    grow_bank(load_world(folder), saved_autoencoder(folder), folder / "bank", crops)


def denoiser(folder: Path, seconds: float) -> None:
    """Train at a constant rate, for as long as there is time."""
    train_denoiser(
        load_bank(folder / "bank", encoder_digest(saved_autoencoder(folder))), folder, DenoiserRecipe(), seconds
    )


def decay(folder: Path, seconds: float, steps: int) -> None:
    """On a copy of the denoiser's state, take the rate to nothing over `steps` steps: `folder/decay.pt`."""
    state = load_state(folder / "denoiser.pt")
    if state is None:
        raise InvalidRequest(f"no denoiser in {folder}: run --stage denoiser first")
    first = int(state["step"])
    recipe = DenoiserRecipe(decay_from=first, steps=first + steps, ema=0.98)
    crops = load_bank(folder / "bank", encoder_digest(saved_autoencoder(folder)))
    train_denoiser(crops, folder, recipe, seconds, name="decay", start="denoiser")


def average_of(folder: Path) -> Denoiser:
    """The averaged weights of the denoiser, or of a decayed copy that was made since."""
    states = [state for name in ("decay", "denoiser") if (state := load_state(folder / f"{name}.pt"))]
    if not states:
        raise InvalidRequest(f"no denoiser in {folder}: run --stage denoiser first")
    state = max(states, key=lambda state: int(state["step"]))
    net = Denoiser(DenoiserRecipe(widths=tuple(state["widths"])), len(build_tokenizer()))
    net.load_state_dict(state["ema"])
    return net.eval()


def release(folder: Path, out: Path) -> None:
    """Write the model folder."""
    autoencoder = saved_autoencoder(folder)
    write_release(out, average_of(folder), autoencoder)
    world = load_world(folder)
    write_doubling(out, *fit_doubling(world, autoencoder))
    write_turns(out, fit_turns(world, autoencoder))
    preview(out, folder)


def preview(model: Path, folder: Path) -> tuple[float, float]:
    """Fit how latents look without a decoder, into the model folder; returns the share of variance that this explains
    on crops that it was not fitted to, and the mean error in levels of 255."""
    from raytile.models.folder import read_spec
    from raytile.models.registry import load

    module = load(read_spec(model))
    crops = load_bank(folder / "bank", encoder_digest(saved_autoencoder(folder)))
    colours, share, miss = fit_preview(decoded(module, crops))
    write_preview(model, colours)
    return share, miss


def sheet(model: Path, out: Path, seeds: int = 4) -> list[Path]:
    """One sheet of 8 prompts by `seeds` pictures for each style and zoom; returns the files."""
    painter = Painter(*read_release(model))
    files = []
    for style in STYLES:
        for zoom in ZOOM_PHRASES:
            prompts = [f"{STYLE_PHRASES[style]} of {prompt}, {zoom}" for prompt in PROMPTS]
            file = out / f"{style}-{zoom.replace(' ', '-')}.jpg"
            save_picture(file, make_sheet(painter, prompts, seeds), shrink=2)
            files.append(file)
    return files


def control(model: Path, folder: Path, out: Path) -> dict[str, float]:
    """A sheet of pictures under masks drawn by hand, in `out`; returns how well masks are obeyed."""
    from raytile.models.folder import read_spec
    from raytile.models.registry import load
    from raytile.train.steered import drawn_masks, measure_steering, steered_sheet

    world, module = load_world(folder), load(read_spec(model))
    save_picture(out, steered_sheet(module, list(drawn_masks(world).values())), shrink=2)
    return measure_steering(module, world)


def copies(model: Path, folder: Path, out: Path) -> list[Match]:
    """64 samples, one of every prompt, style and zoom, each beside its nearest crop of the bank, in `out`."""
    import torch

    painter = Painter(*read_release(model))
    prompts = [
        f"{STYLE_PHRASES[style]} of {prompt}, {zoom}" for style in STYLES for zoom in ZOOM_PHRASES for prompt in PROMPTS
    ]
    noise = torch.randn((len(prompts), 8, 32, 32), generator=torch.Generator().manual_seed(1000))
    crops = load_bank(folder / "bank", encoder_digest(saved_autoencoder(folder)))
    picture, matches = nearest_sheet(painter.autoencoder, crops, paint(painter, prompts, noise))
    save_picture(out, picture)
    return matches
