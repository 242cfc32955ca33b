r"""Training by gradient: objectives and the Lightning module that steps and logs."""

from .module import AdapterTraining, train
from .objectives import OBJECTIVES, Objective

__all__ = ["OBJECTIVES", "AdapterTraining", "Objective", "train"]
