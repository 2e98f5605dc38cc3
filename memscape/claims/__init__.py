"""Every claim of the paper as an executable check."""
