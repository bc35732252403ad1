"""Shared code of the study: import from the repository root, e.g. `from src.data import load_images`."""
