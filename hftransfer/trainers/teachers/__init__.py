"""Teachers: frozen models beside the one that is trained, and the initial weights, which objectives refer to."""
