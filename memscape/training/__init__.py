"""Plans, recipes, the packed trainer, run folders, engines."""
