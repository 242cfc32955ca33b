r"""The house rules of CONTRIBUTING.md, kept by the machine."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import adapts
from adapts import registry

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted((ROOT / "adapts").rglob("*.py"))


def layers() -> dict[str, int]:
    r"""The entries of CONTRIBUTING.md's map of modules, and the line of each."""
    (block,) = re.findall(r"reads this map\.\n\n```\n(.+?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    lines = [re.split(r" {2,}", line)[0].split(", ") for line in block.splitlines()]
    return {entry: height for height, entries in enumerate(lines) for entry in entries}


HEIGHT = layers()


def named(path: Path) -> str:
    r"""The name of a module within the package."""
    return ".".join(path.relative_to(ROOT / "adapts").with_suffix("").parts).removesuffix("__init__").removesuffix(".")


NAMES = {named(path): path for path in MODULES}


def entry(module: str) -> str | None:
    r"""The entry of the map that a module belongs to: the longest that it begins with."""
    parts = module.split(".")
    return next((head for n in range(len(parts), 0, -1) if (head := ".".join(parts[:n])) in HEIGHT), None)


def imports(path: Path) -> Iterator[str]:
    r"""The modules that a module imports wherever it runs, by full name; not those under `if TYPE_CHECKING`."""
    package = path.relative_to(ROOT).parent.parts
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_the_shelves_hold_no_code() -> None:
    for name in ("adapters", "datasets"):
        files = [path for path in (ROOT / name).rglob("*") if path.is_file()]
        assert files
        assert {path.suffix for path in files} <= {".yaml", ".md"}
    assert not (ROOT / "adapts" / "datasets").exists()


def test_the_map_of_modules_names_what_there_is() -> None:
    assert set(HEIGHT) <= set(NAMES)
    assert {entry(name) for name in NAMES if name} == set(HEIGHT)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    module = named(path)
    if not module:  # what the package itself shows is imported when it is asked for
        return
    own = entry(module)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top != "adapts":
            continue
        other = entry(rest if rest in NAMES else rest.rpartition(".")[0])
        if path.name == "__init__.py" and rest.startswith(f"{module}."):  # a package shows what its files hold
            continue
        assert own and other, name
        assert other == own or HEIGHT[other] < HEIGHT[own], f"{module} must not import {name}"


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {f"adapts.{name}".removesuffix("."): path for name, path in NAMES.items()}
    needs = {}
    for name, path in files.items():
        found = {whole if whole in files else whole.rpartition(".")[0] for whole in imports(path)}
        needs[name] = {other for other in found if other in files and other != name}
    while free := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in free:
            del needs[name]
    assert not needs, f"files that import each other, or others that do: {sorted(needs)}"


def test_what_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    run = PROJECT["dependencies"] + sum((extras[name] for name in ("demo", "parquet", "baselines", "flow", "tune")), [])
    paths = [*MODULES, *(ROOT / "tests").rglob("*.py"), ROOT / "conftest.py"]
    distributions = importlib.metadata.packages_distributions()
    backends = registry.FOUNDATION_MODELS.values()
    optional = {name for backend in backends for name in backend.requires}  # installed by an extra or by commands
    for path in paths:
        # what others inherit for their tests needs pytest, as our own tests do
        library = path in MODULES and "testing" not in path.parts
        declared = {canonicalize_name(Requirement(text).name) for text in (run if library else run + extras["test"])}
        for name in imports(path):
            top = name.split(".")[0]
            if top in ("adapts", "benchmarks", "pretraining", "tests") or top in sys.stdlib_module_names:
                continue
            if top in optional and (not library or "foundation" in path.parts):
                continue
            if (ROOT / "tests" / f"{top}.py").exists() or (ROOT / "tests" / top).is_dir():
                continue
            names = {canonicalize_name(distribution) for distribution in distributions.get(top, [top])}
            assert names & declared, f"{path.relative_to(ROOT)} imports {top}, which pyproject.toml does not declare"


def test_each_backend_says_how_to_install_what_it_needs() -> None:
    for name, backend in registry.FOUNDATION_MODELS.items():
        assert importlib.util.find_spec(backend.module), name
        assert backend.config, name
        assert backend.extra is None or backend.extra in PROJECT["optional-dependencies"], name
        assert bool(backend.requires) == (backend.extra is not None or backend.environment is not None), name


def test_the_lock_holds_what_is_declared_and_nothing_of_one_machine() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    for line, pin in zip(lines, pins, strict=True):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line), line
        assert not re.match("nvidia|cuda|triton", pin.name), line
    assert "torch==2.13.0" in lines
    texts = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    for wanted in map(Requirement, texts):
        if wanted.name == "adapts":
            continue
        held = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        assert held, f"{wanted} is not in requirements.lock: make lock"
        for pin in held:
            assert wanted.specifier.contains(next(iter(pin.specifier)).version), f"{pin} against {wanted}: make lock"


def test_importing_adapts_brings_nothing_heavy() -> None:
    heavy = ["chronos", "gluonts", "lightning", "matplotlib", "pvlib", "transformers"]
    code = f"""
import sys, adapts
assert "torch" not in sys.modules
[getattr(adapts, name) for name in adapts.__all__]
sys.exit(", ".join({{name.split(".")[0] for name in sys.modules}} & set({heavy})) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_public_names() -> None:
    assert dir(adapts) == adapts.__all__
    with pytest.raises(AttributeError, match="module 'adapts' has no attribute 'Adaptor'"):
        adapts.Adaptor  # noqa: B018


def test_every_family_has_a_recipe_and_every_recipe_a_family() -> None:
    from adapts.adapters import families, make

    recipes = {name: registry.load_recipe(name) for name in registry.recipes()}
    assert set(families()) <= set(recipes)
    for recipe in recipes.values():
        make(recipe["family"], recipe["options"])


@pytest.mark.parametrize("name", registry.cards())
def test_every_card_loads(name: str) -> None:
    card = registry.load_card(name)
    assert card["name"] == name


def test_the_wheel_holds_the_package_and_both_shelves(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    info = f"adapts-{adapts.__version__}.dist-info"
    assert {name.split("/")[0] for name in held} == {"adapts", info}
    assert {"adapts/py.typed", f"{info}/licenses/LICENSE"} <= held
    assert {f"adapts/foundation/bolt_nano/{file}" for file in ("config.json", "model.safetensors")} <= held
    for name, files in (("adapters", registry.recipes()), ("datasets", registry.cards())):
        assert {f"adapts/_shelf/{name}/{path.name}" for path in files.values()} <= held

    code = (
        "from adapts import registry\n"
        "print(*registry.recipes(), *registry.cards(), registry.recipes()['linear'].parts[-3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*registry.recipes(), *registry.cards(), "_shelf"]


def test_nothing_of_one_machine_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is committed is not known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    # written apart, so that this file does not hold what it forbids
    forbidden = ["/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/wo" + "rk/", "/o" + "pt/", "pypi" + ".org",
                 "python" + "hosted", "download." + "pytorch"]  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".png", ".safetensors"):
            continue
        text = path.read_text(encoding="utf-8")
        assert not [part for part in forbidden if part in text], name


def test_what_is_public_is_documented() -> None:
    for found in pkgutil.walk_packages(adapts.__path__, "adapts."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if getattr(value, "__module__", None) != module.__name__:
                continue
            assert value.__doc__, f"{found.name}.{name}"
            if inspect.isclass(value):
                inherited = {member for base in value.__mro__[1:] for member in vars(base)}
                for member, thing in vars(value).items():
                    if member.startswith("_") or member in inherited or not callable(getattr(value, member)):
                        continue
                    assert thing.__doc__, f"{found.name}.{name}.{member}"
