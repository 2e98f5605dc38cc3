"""Studies and experiments that use all rooms."""

from memscape.experiments.reproduce import NAMES, Reproduction, cost, named, reproduce
from memscape.experiments.study import RECIPES, Study, StudyPlan, plan_study, study

__all__ = [
    "NAMES", "RECIPES", "Reproduction", "Study", "StudyPlan", "cost", "named", "plan_study", "reproduce", "study",
]  # fmt: skip
