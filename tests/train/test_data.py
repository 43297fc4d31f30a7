"""Laws of the training data: reproducible, clear of what is held out, and truly described."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raytile.train.autoencoder import draw_batch
from raytile.train.captions import (
    LENGTH,
    ZOOM_PHRASES,
    build_tokenizer,
    facts,
    token_ids,
    vocabulary,
    write_caption,
)
from raytile.train.crops import SIZE, Sight, draw_crop, draw_view, plain_grid, sample, sight_kind
from raytile.train.gates import LIST, SIZES, read_places
from raytile.train.world import HELD_OUT, SCALES, STYLES, WIDTH, World, draw_place, held_out

NAMES = "africa america americas asia europe australia antarctica arctic_circle atlantic pacific indian east west"


def any_sight(rng: np.random.Generator) -> Sight:
    ice, desert, forest, grass = rng.dirichlet((0.5, 0.5, 0.5, 0.5))
    land = float(rng.choice((0.0, 0.01, 0.3, 0.6, 0.98, 1.0)))
    return Sight(
        style=str(rng.choice(STYLES)),
        level=int(rng.integers(4)),
        land=land,
        ice=float(ice),
        desert=float(desert),
        forest=float(forest),
        grass=float(grass),
        mountain=float(rng.random()),
        shore=float(rng.random() * 12),
        latitude=float(rng.random() * 90),
    )


def test_a_crop_is_a_function_of_seed_and_number(world: World) -> None:
    first, again, other = draw_crop(world, 3, 11), draw_crop(world, 3, 11), draw_crop(world, 3, 12)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.sight == again.sight
    assert first.pixels.shape == (SIZE, SIZE, 3)
    assert not np.array_equal(first.pixels, other.pixels)


def test_fine_crops_are_wholly_trainable_and_coarse_ones_say_where_not(world: World) -> None:
    crops = [draw_crop(world, 4, i) for i in range(24)]
    assert all(crop.trainable.all() for crop in crops if crop.sight.level == 0)
    assert any(not crop.trainable.all() for crop in crops if crop.sight.level == 3)
    assert {crop.sight.level for crop in crops} == {0, 1, 2, 3}


def test_autoencoder_places_keep_clear_of_the_held_out_bands(world: World) -> None:
    rng = np.random.default_rng(0)
    for level in (0, 1, 2, 3):
        columns = WIDTH * SCALES[level]
        for _ in range(20):
            _, left = draw_place(world, rng, level, 128)
            assert not held_out((np.arange(left, left + 128) / columns * 360 - 180).astype(np.float32)).any()


def test_autoencoder_batches_are_a_function_of_seed_and_step(world: World) -> None:
    assert draw_batch(world, 1, 5, 2, 64).equal(draw_batch(world, 1, 5, 2, 64))
    assert not draw_batch(world, 1, 5, 2, 64).equal(draw_batch(world, 1, 6, 2, 64))


def test_held_out_wraps() -> None:
    for low, high in HELD_OUT:
        inside = np.array([low, high - 0.01, low + 360, low - 720], dtype=np.float32)
        assert held_out(inside).all()
        assert not held_out(np.array([low - 0.01, high], dtype=np.float32)).any()


def test_the_committed_list_lies_inside_the_held_out_bands() -> None:
    places = read_places()
    assert len(places) == 64
    for place in places:
        columns = WIDTH * SCALES[place.level]
        along = np.arange(place.left, place.left + place.size)
        assert held_out((along / columns * 360 - 180).astype(np.float32)).all()
        assert place.size == SIZES[place.level]
    assert json.loads(LIST.read_text()) == [asdict(place) for place in places]


def test_light_keeps_its_side() -> None:
    """No view but the whole planet's satellite one mirrors: north-west stays left of the falling diagonal."""
    for number in range(60):
        rng = np.random.default_rng(number)
        style, level = STYLES[number % 2], int(rng.integers(4))
        view = draw_view(rng, style, level)
        if level == 3:
            assert not view.transposed
            assert style == "satellite" or not view.mirrored
            continue
        y, x = plain_grid(64)
        rows, columns = view.source(y, x)
        from_light = (rows - view.row) + (columns - view.column)
        assert np.corrcoef(from_light.ravel(), (y + x).ravel())[0, 1] > 0.95


def test_sampling_at_pixel_centres_returns_the_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    rows, columns = np.meshgrid(np.arange(20) + 0.5, np.arange(-40, 40) + 0.5, indexing="ij")
    got = sample(picture, rows.astype(np.float32), columns.astype(np.float32), 0)
    assert np.allclose(got, np.concatenate([picture, picture], 1), atol=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_captions_are_legal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sight = any_sight(rng)
    words = write_caption(sight, rng).replace(",", " ").split()
    assert len(words) <= LENGTH - 2
    assert set(words) <= {*vocabulary(), "[UNK]"}
    assert not set(words) & set(NAMES.split())
    kind = sight_kind(sight)
    assert kind != "sea" or not any("forest" in words for words in facts(sight))


def test_most_captions_name_their_zoom_and_never_another() -> None:
    rng = np.random.default_rng(9)
    named = 0
    for _ in range(400):
        sight = any_sight(rng)
        caption = write_caption(sight, rng).replace(" [UNK]", "")
        named += ZOOM_PHRASES[sight.level] in caption
        others = {phrase for i, phrase in enumerate(ZOOM_PHRASES) if i != sight.level}
        padded = f" {caption} "
        assert not any(f" {phrase} " in padded for phrase in others - {"close view"})
    assert 0.75 < named / 400 < 0.95


def test_tokenizer_reads_its_own_words_back() -> None:
    tokenizer = build_tokenizer()
    text = "satellite view of small islands in a warm sea"
    ids = token_ids(tokenizer, [text, "", "Satellite VIEW, of small-islands; in a warm sea!", "zebra"])
    assert ids.shape == (4, LENGTH)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == text
    assert ids[2].equal(ids[0])
    assert ids[3].tolist()[:3] == [2, 1, 3]
    assert all(token not in (None, 1) for word in vocabulary() for token in tokenizer(word).input_ids)
