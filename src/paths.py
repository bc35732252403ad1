"""Places in the repository; importing this creates nothing."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
RESULTS = ROOT / "results"  # published
RUNS = ROOT / "runs"
FIGURES = ROOT / "figures"
CHECKPOINTS = ROOT / "checkpoints"
