"""Studies and experiments that use all rooms."""

from memscape.experiments.study import RECIPES, Study, StudyPlan, plan_study, study

__all__ = ["RECIPES", "Study", "StudyPlan", "plan_study", "study"]
