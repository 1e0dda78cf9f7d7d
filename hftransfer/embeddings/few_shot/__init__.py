"""Few labels: prototypes, a probe, and an encoder tuned on pairs of labelled rows."""
