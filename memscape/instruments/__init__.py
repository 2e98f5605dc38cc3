"""What looks into a model: capture, the instruments of its states, heads and memories, and their nulls."""

from memscape.instruments.capture import capture
from memscape.instruments.extraction import extraction
from memscape.instruments.membership import membership_of_run
from memscape.instruments.probe import probe
from memscape.instruments.profile import Compared, Layer, Profile
from memscape.instruments.trajectory import Trajectory, trajectory

__all__ = [
    "Compared", "Layer", "Profile", "Trajectory", "capture", "extraction", "membership_of_run", "probe", "trajectory",
]  # fmt: skip
