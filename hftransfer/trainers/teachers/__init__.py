"""Teachers: frozen models beside the one that is trained, and what objectives are anchored to."""
