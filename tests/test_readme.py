r"""The README's Python runs as printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch) -> None:
    pytest.importorskip("pvlib", reason="the README's example reads a file that ships inside pvlib: adapts[demo]")
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert 8 <= len(block.strip().splitlines()) <= 16
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    forecast = names["forecast"]
    assert forecast.samples.shape == (200, 24, 8)
    for shape in re.findall(r"forecast\.mean\s+# \((\d+), (\d+)\)", block):
        assert forecast.mean.shape == tuple(map(int, shape))
    assert (tmp_path / "run" / "adapter" / "config.json").is_file()
