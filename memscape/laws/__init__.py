"""The slide rule: scaling laws fitted to any table of runs, compared, and turned into advice. numpy only, no torch."""

from memscape.laws.advice import advise as advise
from memscape.laws.fitting import fit as fit
from memscape.laws.quantity import parse_quantity as parse_quantity
from memscape.laws.results import Advice as Advice
from memscape.laws.results import Fit as Fit
from memscape.laws.results import Fits as Fits
