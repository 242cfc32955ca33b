r"""Quiet by default, one switch to hear more, and nothing left changed."""

import logging
import subprocess
import sys
import warnings

import pytest

import adapts
from adapts._logging import get_logger, quiet


def test_quiet_silences_the_libraries_below_and_restores_them(caplog, recwarn) -> None:
    chatty = logging.getLogger("lightning.pytorch")
    before = chatty.level
    with quiet():
        logging.getLogger("lightning.pytorch.trainer").warning("GPU available: False")
        warnings.warn("few workers", UserWarning, stacklevel=1)
    assert not caplog.records and not recwarn.list
    assert chatty.level == before
    warnings.warn("heard", UserWarning, stacklevel=1)
    assert len(recwarn.list) == 1


def test_at_info_everything_comes_through(recwarn) -> None:
    adapts.set_verbosity("info")
    with quiet():
        warnings.warn("few workers", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn.list] == ["few workers"]


def test_levels_restored_after_an_error() -> None:
    chatty = logging.getLogger("transformers")
    before = chatty.level
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert chatty.level == before


def test_our_own_messages_follow_the_switch(caplog) -> None:
    logger = get_logger("adapts.adapter")
    logger.info("unheard")
    adapts.set_verbosity("info")
    logger.info("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def test_an_unknown_level() -> None:
    with pytest.raises(ValueError, match=r"no verbosity is called 'inof'; known: debug, info, .*did you mean 'info'\?"):
        adapts.set_verbosity("inof")


@pytest.mark.parametrize(("level", "heard"), [("info", "a stage\n"), ("warning", "")])
def test_the_environment_variable_sets_the_level_at_the_start(level: str, heard: str) -> None:
    code = "from adapts._logging import get_logger; get_logger('adapts.adapter').info('a stage')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"ADAPTS_VERBOSITY": level}, capture_output=True, text=True, check=True
    )
    assert done.stderr == heard
