r"""What every row of a benchmark carries: versions, commit, seed, and the sha256 of the data."""

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path

import adapts
from adapts.data.panel import Panel
from adapts.foundation import FoundationModel

PACKAGES = ("torch", "gluonts", "chronos-forecasting", "lightning", "pandas")


def commit() -> str:
    r"""The commit that the code stands at, with a plus where more than figures and texts differs from it."""
    root = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    code = (":(top)", ":(top,exclude)*.csv", ":(top,exclude)*.md")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def data_sha256(panel: Panel) -> str:
    r"""The sha256 of the numbers that a panel holds."""
    digest = hashlib.sha256()
    for item in panel.items:
        digest.update(item.values.tobytes())
    return digest.hexdigest()


def named(model: FoundationModel) -> str:
    r"""The name of a frozen model and its version."""
    return f"{model.name} {model.version}"


def provenance(panel: Panel, seed: int) -> dict[str, str | int]:
    return {
        "adapts": adapts.__version__,
        **{name: version(name) for name in PACKAGES},
        "commit": commit(),
        "seed": seed,
        "data_sha256": data_sha256(panel),
    }
