"""Scaling laws: fit, compare, advise; arrays in, answers out, no torch."""
