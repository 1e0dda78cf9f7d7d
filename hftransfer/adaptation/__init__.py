"""Which model the user gets: a look at the data, candidates, judging without target labels, handing over."""
