"""Data of a run: reading domains, labels, encoding, pairing source with target, collating."""
