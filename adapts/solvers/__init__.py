r"""What has a closed form."""

from .ridge import RidgePath, blocked_folds, cross_validated_error, ridge

__all__ = ["RidgePath", "blocked_folds", "cross_validated_error", "ridge"]
