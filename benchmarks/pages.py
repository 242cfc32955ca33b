r"""Pages whose tables are written between marks: no figure is typed by hand."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]


def each(column: pd.Series) -> str:
    r"""Every value of a column once, in their order: a table made at two times names both."""
    return ", ".join(column.dropna().convert_dtypes().astype(str).unique())


def write(page: str, script: str, tables: Mapping[str, str]) -> None:
    r"""Writes tables into a page, each in place of what stands between its marks.

    Arguments:
        page: The page, from the root of the repository.
        script: The `__file__` of the script that makes the tables, which the marks name.
        tables: Of each name the lines between `<!-- NAME: made by SCRIPT -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: If the page does not hold each pair of marks once; it then stays as it is.
    """
    path, by = ROOT / page, Path(script).resolve().relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: made by {by} -->\n", f"\n<!-- /{name} -->"
        before, *rest = text.split(begin)
        _, *after = rest[0].split(end) if len(rest) == 1 else ("",)
        if len(after) != 1:
            raise ValueError(f"{page} needs the marks {begin.strip()} and {end.strip()}, once each and in this order")
        text = f"{before}{begin}{lines}{end}{after[0]}"
    path.write_text(text, encoding="utf-8")
