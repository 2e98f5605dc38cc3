"""Studies and experiments that use all rooms."""
