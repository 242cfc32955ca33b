r"""Calibration: the gate, tails, recalibration, its updates, and joint bands."""

from .gate import Gate, fit_gate
from .joint_bands import JointBands
from .online import OnlineRecalibration
from .recalibration import Recalibration
from .tails import Tails

__all__ = ["Gate", "JointBands", "OnlineRecalibration", "Recalibration", "Tails", "fit_gate"]
