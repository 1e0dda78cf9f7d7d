"""Set-up of a run: what is checked and prepared before the first step."""
