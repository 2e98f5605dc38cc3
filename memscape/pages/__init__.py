"""Gather results, draw figures, write one page."""
