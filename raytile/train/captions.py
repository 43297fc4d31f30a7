"""Captions of training crops from what they show, and the word-level tokenizer that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raytile.train.crops import Sight

LENGTH = 24
"""Tokens of every prompt, [BOS] and [EOS] counted."""
ZOOM_PHRASES = ("close view", "region", "continent", "whole planet")
"""One phrase a zoom level, finest first."""

STYLE_WORDS = {
    "satellite": (
        "satellite view",
        "satellite image",
        "satellite picture",
        "satellite photo",
        "from space",
        "satellite",
    ),
    "relief": ("relief map", "shaded relief", "map", "topographic map", "relief", "atlas map"),
}
LAND_WORDS = {
    "ice": ("ice", "snow", "snowy land", "glaciers", "frozen land", "white ice", "ice sheet"),
    "desert": ("desert", "sand", "dunes", "dry land", "arid land", "sandy desert", "dry sand"),
    "forest": ("forest", "woods", "green forest", "jungle", "lush land", "woodland", "dark forest"),
    "grass": ("plains", "grassland", "steppe", "savanna", "green plains", "fields", "valleys"),
    "mountain": ("mountains", "mountain range", "highlands", "peaks", "rugged mountains", "mountain"),
}
BLENDS = {
    ("ice", "mountain"): ("snowy mountains", "snowy peaks", "icy mountains", "snow capped mountains"),
    ("forest", "mountain"): ("green mountains", "forested mountains", "green valleys"),
    ("desert", "mountain"): ("dry mountains", "rocky desert", "barren mountains"),
}
WATER_WORDS = {
    "open": ("open ocean", "open sea", "deep ocean", "ocean", "sea", "blue water"),
    "islands": ("islands", "archipelago", "an archipelago", "island chain", "many islands", "small islands", "island"),
    "coast": ("coast", "coastline", "shore", "rugged coast", "bay", "peninsula", "gulf"),
    "inland": ("inland", "no sea", "land only", "interior"),
    "lakes": ("lakes", "inland sea", "lake"),
    "continents": ("continents", "oceans and continents", "earth", "world", "planet with oceans"),
}
BELT_WORDS = {
    "tropics": ("tropical", "warm", "hot", "equatorial"),
    "middle": ("temperate", "mild"),
    "polar": ("polar", "cold", "arctic", "frozen"),
}
SEA_WORDS = {"tropics": ("warm sea", "tropical sea"), "middle": ("blue sea",), "polar": ("cold sea", "icy sea")}
GLUE = ("of", "with", "and", "in", "a", "an", "the", "by")
AMOUNTS = ("mostly", "some")
ALIKE = (
    ("ice", "snow", "glaciers", "sheet", "white", "icy", "snowy", "capped"),
    ("desert", "sand", "dunes", "dry", "arid", "sandy", "barren", "rocky"),
    ("forest", "woods", "jungle", "woodland", "lush", "dark", "forested"),
    ("plains", "grassland", "steppe", "savanna", "fields"),
    ("mountains", "mountain", "range", "highlands", "peaks"),
    ("ocean", "open", "deep"),
    ("islands", "archipelago", "island", "chain", "small", "many"),
    ("coast", "coastline", "shore", "bay", "peninsula", "gulf"),
    ("inland", "interior"),
    ("lakes", "lake"),
    ("continents", "earth", "world", "oceans"),
    ("tropical", "warm", "hot", "equatorial"),
    ("temperate", "mild"),
    ("polar", "cold", "arctic", "frozen"),
    ("satellite", "photo", "image", "picture", "space"),
    ("relief", "map", "shaded", "topographic", "atlas"),
)
"""Words that start training with nearly one embedding: they mean nearly one thing, so there is less to learn."""


@dataclass(frozen=True)
class CaptionRules:
    """How often a caption, or a part of it, is left away."""

    empty: float = 0.06
    zoom_only: float = 0.05
    no_zoom: float = 0.08
    no_style: float = 0.06
    no_attribute: float = 0.08
    unknown: float = 0.15
    """Share of captions in which a few words are replaced by [UNK]."""


def facts(sight: Sight) -> list[tuple[str, ...]]:
    """What may be said of a crop: for each fact, its wordings. A land class counts above 15 % of the picture."""
    said: list[tuple[str, ...]] = []
    belt = "tropics" if sight.latitude < 24 else "middle" if sight.latitude < 56 else "polar"
    for kind in ("ice", "desert", "forest", "grass"):
        share = getattr(sight, kind) * sight.land
        if share > 0.15 or (sight.level == 0 and getattr(sight, kind) > 0.5 and share > 0.06):
            amount = "mostly" if share > 0.5 else "some"
            plain = LAND_WORDS[kind]
            said.append((*plain, *(f"{amount} {words}" for words in plain)))
    if sight.mountain * sight.land > 0.15:
        said.append(LAND_WORDS["mountain"])
        said.extend(words for (kind, _), words in BLENDS.items() if getattr(sight, kind) * sight.land > 0.12)
    if sight.level == 3:
        said.append(WATER_WORDS["continents"])
        return said
    if sight.land < 0.03:
        said.append(WATER_WORDS["open"])
    elif sight.land > 0.97:
        said.append(WATER_WORDS["inland"])
        if sight.land < 0.995 and sight.shore > 0.3:
            said.append(WATER_WORDS["lakes"])
    elif sight.land < 0.45 and sight.shore > 3.0 + 6.0 * sight.land:
        said.append(WATER_WORDS["islands"])
    elif sight.shore > 0.6:
        said.append(WATER_WORDS["coast"])
    if sight.land < 0.9 and sight.shore > 0.3:
        said.append(SEA_WORDS[belt])
    if sight.level < 2:
        said.append(BELT_WORDS[belt])
    return said


def write_caption(sight: Sight, rng: np.random.Generator, rules: CaptionRules = CaptionRules()) -> str:
    """One caption: style, zoom and up to five facts in varying order; never a name and never a longitude."""
    luck = rng.random()
    if luck < rules.empty:
        return ""
    zoom = ZOOM_PHRASES[sight.level]
    if luck < rules.empty + rules.zoom_only:
        return zoom
    parts: list[str] = []
    known = facts(sight)
    for i in rng.permutation(len(known))[: int(rng.integers(2, 6))]:
        if rng.random() >= rules.no_attribute:
            parts.append(str(rng.choice(np.array(known[int(i)]))))
    if rng.random() >= rules.no_style:
        style = str(rng.choice(np.array(STYLE_WORDS[sight.style])))
        parts.insert(0 if rng.random() < 0.7 else int(rng.integers(len(parts) + 1)), style)
    if rng.random() >= rules.no_zoom:
        parts.insert(len(parts) if rng.random() < 0.7 else int(rng.integers(len(parts) + 1)), zoom)
    words = " , ".join(parts).split()
    words = [str(rng.choice(np.array(GLUE))) if word == "," and rng.random() < 0.6 else word for word in words]
    if rng.random() < rules.unknown:
        for _ in range(int(rng.integers(1, 4))):
            words.insert(int(rng.integers(len(words) + 1)), "[UNK]")
    return " ".join(words[: LENGTH - 2])


def vocabulary() -> list[str]:
    """Every word a caption may hold, sorted."""
    phrases: list[str] = [*ZOOM_PHRASES, *GLUE, *AMOUNTS]
    for table in (STYLE_WORDS, LAND_WORDS, WATER_WORDS, BELT_WORDS, SEA_WORDS):
        phrases.extend(phrase for wordings in table.values() for phrase in wordings)
    phrases.extend(phrase for wordings in BLENDS.values() for phrase in wordings)
    return sorted({word for phrase in phrases for word in phrase.split()})


def build_tokenizer() -> Any:
    """A transformers fast tokenizer over `vocabulary()`: lower case, punctuation ignored, padded to `LENGTH`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
    table = {word: index for index, word in enumerate([*special, *vocabulary()])}
    core = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\p{L}\p{N}\s]+"), " ")]
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", table["[BOS]"]), ("[EOS]", table["[EOS]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=LENGTH,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        padding_side="right",
    )


def token_ids(tokenizer: Any, captions: Sequence[str]) -> Any:
    """Token numbers [captions, LENGTH] as a torch tensor."""
    return tokenizer(
        list(captions), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def save_tokenizer(folder: Path) -> None:
    """Write tokenizer.json and its configuration."""
    build_tokenizer().save_pretrained(str(folder))
