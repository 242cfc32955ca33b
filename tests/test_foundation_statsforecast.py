r"""Theta and AutoETS of statsforecast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seasonal import seasonal  # noqa: F401
from torch.testing import assert_close

from adapts import load_foundation_model
from adapts.foundation import FoundationModel
from adapts.testing import FoundationModelConformance

pytest.importorskip("statsforecast", reason="the extra statsforecast is not installed")
