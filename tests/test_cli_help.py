r"""Lists, help and completion: what the command line tells of itself, and that it does so at once."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_files import run
from typer.main import get_command

import adapts
from adapts.adapters import families
from adapts.cli import app
from adapts.foundation.names import WEIGHTS
from adapts.registry import cards, load_recipe, recipes


class TestLists:
    @pytest.mark.parametrize(
        ("what", "names"), [("families", recipes), ("datasets", cards), ("models", lambda: WEIGHTS)]
    )
    def test_every_name_stands_there(self, what, names):
        result = run("list", what)
        assert result.exit_code == 0
        listed = [line.split("  ")[0] for line in result.stdout.splitlines()]
        assert listed[: len(names())] == list(names())
        assert [row["name"] for row in json.loads(run("list", what, "--json").stdout)] == list(names())

    def test_the_options_of_a_family_stand_there(self):
        line = next(line for line in run("list", "families").stdout.splitlines() if line.startswith("residual "))
        for row in json.loads(run("list", "families", "--json").stdout):
            fields = families()[load_recipe(row["name"])["family"]].fields()
            assert list(row["options"]) == list(fields)
            if row["name"] == "residual":
                assert all(f"{name}={value}" in line for name, value in fields.items())

    def test_version(self):
        assert run("--version").stdout == f"adapts {adapts.__version__}\n"


class TestHelp:
    def test_without_a_command(self):
        assert run().stdout == run("--help").stdout and run().exit_code == 0
        assert all(name in run().stdout for name in ("forecast", "backtest", "list", "Exit codes", "130"))

    @pytest.mark.parametrize("command", ["forecast", "backtest", "list"])
    def test_examples_name_options_that_there_are(self, command):
        parsed = get_command(app).commands[command]
        known = {name for parameter in parsed.params for name in parameter.opts + parameter.secondary_opts}
        examples = re.findall(r"^- adapts (\w+) (.+)$", parsed.epilog, re.MULTILINE)
        assert len(examples) >= 2
        for name, rest in examples:
            assert name == command and set(re.findall(r"(?<!\S)--[\w-]+", rest)) <= known

    @pytest.mark.parametrize("command", ["forecast", "backtest"])
    def test_every_option_says_what_it_does(self, command):
        parameters = get_command(app).commands[command].params
        assert all(parameter.help for parameter in parameters if parameter.name != "help")
        text = run(command, "--help").stdout
        assert "How DATA is read" in text and "Examples" in text

    @pytest.mark.parametrize("words", [["--help"], ["forecast", "--help"], ["backtest", "--help"], ["--version"]])
    def test_comes_without_torch(self, words):
        code = (
            "import sys\nfrom adapts.cli import app\n"
            f"try:\n    app({words!r})\nexcept SystemExit as end:\n    assert not end.code\n"
            "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


class TestCompletion:
    def complete(self, words):
        r"""What bash would be offered after these words."""
        environment = os.environ | {
            "_ADAPTS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        code = "from adapts.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        return done.stdout.split()

    def test_a_script_for_the_shell(self):
        environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        command = [sys.executable, "-c", "from adapts.cli import main; main()", "--show-completion", "bash"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "complete" in done.stdout and "_ADAPTS_COMPLETE" in done.stdout

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            ("adapts back", ["backtest"]),
            ("adapts forecast green", ["greensboro"]),
            ("adapts forecast x.csv --family resi", ["residual"]),
            ("adapts backtest x.csv --family lin", ["linear"]),
            ("adapts forecast x.csv --foundation-model bolt", ["bolt-nano"]),
            ("adapts list data", ["datasets"]),
            ("adapts forecast x.csv --time", ["--timestamp-column", "--time-limit"]),
        ],
    )
    def test_names(self, words, offered):
        assert self.complete(words) == offered


def test_every_form_of_the_page_is_understood():
    page = (Path(__file__).parents[1] / "docs" / "command_line.md").read_text(encoding="utf-8")
    commands = get_command(app).commands
    typed = [shlex.split(line, comments=True) for block in re.findall(r"```sh\n(.+?)```", page, re.DOTALL)
             for line in block.splitlines()]  # fmt: skip
    typed = [words[1:] for words in typed if words[1] in commands]
    assert len(typed) >= 12
    for name, *words in typed:
        with commands[name].make_context(name, words):  # raises where a word is not one
            pass
    named = set(re.findall(r"`(--[a-z-]+)", page))
    known = {option for command in commands.values() for p in command.params for option in p.opts + p.secondary_opts}
    assert named <= known | {"--install-completion", "--show-completion"}
