"""The files of the small CLIP that ships with the demo."""

from pathlib import Path

ENCODER_DIR = Path(__file__).parent / "encoder"
CONFIG_PATH = ENCODER_DIR / "demo-clip.json"
WEIGHTS_PATH = ENCODER_DIR / "demo-clip.safetensors"
CARD_PATH = ENCODER_DIR / "CARD.md"
