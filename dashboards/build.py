"""Write the dashboards as Grafana reads them: `python -m dashboards.build`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import fleet, render, service

HERE = Path(__file__).parent


def texts() -> dict[str, str]:
    """The JSON of each dashboard, by its name."""
    made = {"fleet": fleet.dashboard(), "render": render.dashboard(), "service": service.dashboard()}
    return {name: json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True) + "\n" for name, board in made.items()}


def main() -> None:
    for name, text in texts().items():
        (HERE / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
