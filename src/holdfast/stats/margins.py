"""What counts as what. A study fixes it before it runs, and every arm of it shares it."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Margins:
    """The margins of a study. Raises ValueError for a value out of its range."""

    install_points: float = 5.0
    """Smallest lead at step 0, in points, that counts as installed. 0 to 100."""
    retention: float = 0.5
    """A lead is kept if surely more than this share of it is left, and shrunk if surely less. 0 to 1."""
    rise_points: float = 10.0
    """An arm's own rate held if it surely rose by less, in points, and rose if surely by more. 0 to 100."""
    competence: float = 0.5
    """Smallest share of the twin's tasks that arm and control surely do. 0 to 1."""
    unscored: float = 0.1
    """Largest share of replies without an outcome, of arm and of control. 0 to 1."""
    unscored_gap: float = 0.05
    """Largest difference between the two shares. 0 to 1."""
    confidence: float = 0.95
    """Two-sided, of every interval. 0.5 to 0.999."""

    def __post_init__(self) -> None:
        ranges = {"install_points": (0, 100), "rise_points": (0, 100), "confidence": (0.5, 0.999)}
        for f in fields(self):
            value, (low, high) = getattr(self, f.name), ranges.get(f.name, (0, 1))
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"margins.{f.name} must be a number from {low} to {high}, not {value!r}")
