"""What looks into a model: capture, the instruments of its states, heads and memories, and their nulls."""

from memscape.instruments.probe import probe
from memscape.instruments.profile import Compared, Layer, Profile
from memscape.instruments.trajectory import Trajectory, trajectory

__all__ = ["Compared", "Layer", "Profile", "Trajectory", "probe", "trajectory"]
