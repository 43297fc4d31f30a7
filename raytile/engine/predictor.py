"""Windows go through the network: rows in micro-batches, guidance, the voices of a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raytile.engine.held import Held, gather
from raytile.engine.survey import Survey
from raytile.errors import Abandoned
from raytile.models.base import Module
from raytile.plan.plan import Plan
from raytile.plan.voices import Voice
from raytile.plan.windows import Seen, Windows
from raytile.sampling import Schedule, scale_input
from raytile.sync.fuse import guide

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Predictor:
    """Runs the module. `stopped` says between micro-batches whether the work is wanted no more. `rows`, `rows_padded`:
    what went through the network so far, and what of it was padding."""

    def __init__(
        self, plan: Plan, module: Module, schedule: Schedule, survey: Survey, stopped: Callable[[], bool]
    ) -> None:
        self.plan, self._module, self._schedule, self._survey, self._stopped = plan, module, schedule, survey, stopped
        self.rows = self.rows_padded = 0
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
        asked = {window: self._texts(heard[window], voices, step) for window in windows}
        before = self._module.rows_evaluated()
        rows = [(window, text) for window in windows for text in asked[window]]
        answers: dict[str, Tensor] = {}
        size = self.plan.micro_batch
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            output = self._run(grid, level, step, batch, cells)
            for (window, text), values in zip(batch, output, strict=False):
                answers[text] = values
                if len(answers) == len(asked[window]):
                    told[window] = self._said(level, step, grid.reads(window), heard[window], answers)
                    answers = {}
        self.rows += self._module.rows_evaluated() - before

    def _texts(self, heard: NDArray[np.bool_], voices: Sequence[Voice], step: int) -> tuple[str, ...]:
        """What a window is asked with, each text once."""
        guided = self.plan.guided[step]
        spoken = (text for voice, on in zip(voices, heard, strict=True) if on for text in voice.texts(guided))
        return tuple(dict.fromkeys(spoken))

    def _run(
        self,
        grid: Windows,
        level: int,
        step: int,
        batch: Sequence[tuple[int, str]],
        cells: Mapping[int, Iterable[Held]],
    ) -> Tensor:
        """One micro-batch through the network, padded with its last row again."""
        if self._stopped():
            raise Abandoned("told to stop")
        patches = [grid.reads(window) for window, _ in batch]
        x = torch.stack([gather(patch, cells, self.plan.spec.channels) for patch in patches])
        shown = scale_input(x, step, self._schedule)
        spare = self.plan.micro_batch - len(batch)
        self.rows_padded += spare
        shown = torch.cat([shown, shown[-1:].expand(spare, -1, -1, -1)])
        words = [self._conditioning[text] for _, text in batch]
        steer = None
        if self.plan.request.control is not None:
            steer = torch.stack([self._survey.control(level, patch) for patch in patches])
            steer = torch.cat([steer, steer[-1:].expand(spare, -1, -1, -1)])
        words += words[-1:] * spare
        return self._module.predict(shown, self._schedule.timesteps[step], words, steer)

    def _said(
        self, level: int, step: int, patch: Seen, heard: NDArray[np.bool_], answers: Mapping[str, Tensor]
    ) -> Tensor:
        """One prediction of a window: each voice guided for itself, then mixed by how much of each cell it has."""
        voices, guided = self.plan.levels[level].voices, self.plan.guided[step]

        def spoken(voice: Voice) -> Tensor:
            if len(voice.texts(guided)) == 1:
                return answers[voice.prompt]
            return guide(answers[voice.negative], answers[voice.prompt], voice.guidance)

        if not heard[1:].any():
            return spoken(voices[0])
        total: Tensor | None = None
        for number, share in self._survey.shares(level, patch, heard).items():
            if heard[number]:
                part = spoken(voices[number]) * share
                total = part if total is None else total + part
        assert total is not None
        return total
