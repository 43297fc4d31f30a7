"""Every example of values, rendered by a real Helm, before every judge that there is; and seeded faults, all seen."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from deploy.render import CHART, PLAIN, documents, examples, plain, render
from tests.acceptance.common import report, say
from tests.deploy import laws, manifests
from tests.deploy.mutations import MUTATIONS, caught


def main() -> None:
    from helm_python.chart import lint

    folder = Path(tempfile.mkdtemp(prefix="raytile-manifests-"))
    found: dict[str, dict[str, list[str]]] = {}
    kinds: Counter[str] = Counter()
    for name, values in examples().items():
        made = documents(render(values))
        kinds.update(document["kind"] for document in made)
        found[name] = {
            "helm lint --strict": lint(CHART, values, strict=True)["errors"],
            "kubernetes-validate --strict": manifests.core_problems(made),
            "validate_manifests.py": manifests.ray_problems(made, folder),
            "laws": laws.problems(made),
        }
        say(name, {judge: len(problems) for judge, problems in found[name].items()})
    seen = {}
    for mutation in MUTATIONS:
        said = caught(mutation, folder)
        seen[mutation.name] = {check: problems[0][:200] for check, problems in sorted(said.items())}
        say(mutation.name, sorted(said))
    missed = [mutation.name for mutation in MUTATIONS if set(seen[mutation.name]) != mutation.seen_by]
    checks = {
        "every example passes every judge": not any(any(judges.values()) for judges in found.values()),
        "the plain YAML is what Helm renders": all(
            (PLAIN / f"{name}.yaml").read_text(encoding="utf-8") == plain(name, values)
            for name, values in examples().items()
        ),
        "at least 20 faults, each seen by the checks that should": len(MUTATIONS) >= 20 and not missed,
    }
    report(
        "manifests: rendered by Helm, taken by Kubernetes' and KubeRay's schemas; seeded faults are seen",
        checks,
        {
            "examples": len(found),
            "objects": dict(sorted(kinds.items())),
            "laws": [law.__name__ for law in laws.LAWS],
            "problems": {name: judges for name, judges in found.items() if any(judges.values())},
            "faults": len(MUTATIONS),
            "seen by": dict(Counter(check for one in seen.values() for check in one)),
            "missed": missed,
            "each": seen,
        },
    )


if __name__ == "__main__":
    main()
