"""Gather results, draw figures, write one page."""

from memscape.pages.gather import Story as Story
from memscape.pages.gather import gather as gather
from memscape.pages.page import report as report
from memscape.pages.verdict import Verdict as Verdict
from memscape.pages.verdict import verdict as verdict
