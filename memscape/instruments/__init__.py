"""What looks into a model: capture, radius, energy, descent, landscape, and their nulls."""

from memscape.instruments.probe import probe
from memscape.instruments.profile import Compared, Layer, Profile

__all__ = ["Compared", "Layer", "Profile", "probe"]
