"""Instance transfer: what each source row counts, so that the source stands for the target."""
