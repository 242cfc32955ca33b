r"""Training by gradient: objectives and the Lightning module."""

from .module import AdapterTraining, train
from .objectives import OBJECTIVES, Objective

__all__ = ["OBJECTIVES", "AdapterTraining", "Objective", "train"]
