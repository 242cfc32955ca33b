r"""Calibration: gate, tails, recalibration (batch and online) and joint bands."""

from .gate import Gate, fit_gate
from .joint_bands import JointBands
from .online import OnlineRecalibration
from .recalibration import Recalibration
from .tails import Tails

__all__ = ["Gate", "JointBands", "OnlineRecalibration", "Recalibration", "Tails", "fit_gate"]
