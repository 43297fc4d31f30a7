"""Windows go through the network: rows in micro-batches, guidance, the voices of a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raytile.engine.held import Held, gather
from raytile.engine.parts import Parts
from raytile.engine.survey import Survey
from raytile.errors import Abandoned
from raytile.models.base import Module
from raytile.plan.plan import Plan
from raytile.plan.voices import Voice
from raytile.plan.windows import Seen
from raytile.sampling import Schedule, scale_input
from raytile.sync.fuse import guide

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Predictor:
    """Runs the module. `stopped` says between micro-batches whether the work is wanted no more. `rows`, `rows_padded`:
    what went through the network so far, and what of it was padding."""

    def __init__(
        self,
        plan: Plan,
        module: Module,
        schedule: Schedule,
        survey: Survey,
        stopped: Callable[[], bool],
        parts: Parts,
    ) -> None:
        self.plan, self._module, self._schedule, self._survey = plan, module, schedule, survey
        self._stopped, self._parts = stopped, parts
        self.rows = self.rows_padded = 0
        self._basis = module.turns()
        voices = [voice for level in plan.levels for voice in level.voices]
        texts = list(dict.fromkeys(text for voice in voices for text in (voice.prompt, voice.negative)))
        self._conditioning = dict(zip(texts, module.encode_prompts(texts), strict=True))

    def predict(
        self,
        level: int,
        step: int,
        windows: Sequence[int],
        cells: Mapping[int, Iterable[Held]],
        told: dict[int, Tensor],
    ) -> None:
        """Run the network on `windows` in micro-batches of the plan's size, the last one padded; `told` gets, by
        window, its prediction [channels, window, window]."""
        grid = self.plan.windows(level, step)
        heard, voices = self.plan.heard(level, step), self.plan.levels[level].voices
        patches = {window: grid.reads(window) for window in windows}
        asked = {window: self._texts(heard[window], voices, step) for window in windows}

        def shown(window: int) -> tuple[Tensor, Tensor | None]:
            steered = self.plan.request.control is not None
            control = self._survey.control(level, patches[window]) if steered else None
            return gather(patches[window], cells, self.plan.spec.channels, basis=self._basis), control

        for window, answers in self._answers(step, asked, shown):
            told[window] = self._said(level, step, patches[window], heard[window], answers)

    def plain(self, level: int, step: int, shown: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Predictions of windows [channels, window, window] that hear the base prompt alone."""
        voice = self.plan.levels[level].voices[0]
        asked = dict.fromkeys(shown, tuple(dict.fromkeys(voice.texts(self.plan.guided[step]))))
        answers = self._answers(step, asked, lambda window: (shown[window], None))
        return {window: self._spoken(voice, step, found) for window, found in answers}

    def _answers(
        self,
        step: int,
        asked: Mapping[int, tuple[str, ...]],
        shown: Callable[[int], tuple[Tensor, Tensor | None]],
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """What the network says of each window to each text that it is asked with."""
        rows = [(window, text) for window, texts in asked.items() for text in texts]
        answers: dict[str, Tensor] = {}
        size, before = self.plan.micro_batch, self._module.rows_evaluated()
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            seen = {window: shown(window) for window in dict.fromkeys(window for window, _ in batch)}
            output = self._run(step, [(*seen[window], text) for window, text in batch])
            for (window, text), values in zip(batch, output, strict=False):
                answers[text] = values
                if len(answers) == len(asked[window]):
                    yield window, answers
                    answers = {}
        self.rows += self._module.rows_evaluated() - before

    def _texts(self, heard: NDArray[np.bool_], voices: Sequence[Voice], step: int) -> tuple[str, ...]:
        """What a window is asked with, each text once."""
        guided = self.plan.guided[step]
        spoken = (text for voice, on in zip(voices, heard, strict=True) if on for text in voice.texts(guided))
        return tuple(dict.fromkeys(spoken))

    def _run(self, step: int, batch: Sequence[tuple[Tensor, Tensor | None, str]]) -> Tensor:
        """One micro-batch through the network, padded with its last row again."""
        if self._stopped():
            raise Abandoned("told to stop")
        spare = self.plan.micro_batch - len(batch)
        self.rows_padded += spare
        rows = [*batch, *[batch[-1]] * spare]
        x = scale_input(torch.stack([values for values, _, _ in rows]), step, self._schedule)
        controls = [control for _, control, _ in rows if control is not None]
        words = [self._conditioning[text] for _, _, text in rows]
        with self._parts.timed("predict"):
            return self._module.predict(
                x, self._schedule.timesteps[step], words, torch.stack(controls) if controls else None
            )

    def _said(
        self, level: int, step: int, patch: Seen, heard: NDArray[np.bool_], answers: Mapping[str, Tensor]
    ) -> Tensor:
        """One prediction of a window: each voice guided for itself, then mixed by how much of each cell it has."""
        voices = self.plan.levels[level].voices
        if not heard[1:].any():
            return self._spoken(voices[0], step, answers)
        total: Tensor | None = None
        for number, share in self._survey.shares(level, patch, heard).items():
            if heard[number]:
                part = self._spoken(voices[number], step, answers) * share
                total = part if total is None else total + part
        assert total is not None
        return total

    def _spoken(self, voice: Voice, step: int, answers: Mapping[str, Tensor]) -> Tensor:
        """What one voice says, guided."""
        if len(voice.texts(self.plan.guided[step])) == 1:
            return answers[voice.prompt]
        return guide(answers[voice.negative], answers[voice.prompt], voice.guidance)
