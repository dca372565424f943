"""One arm from a pretrained model to scored records: `run.py` is the main path."""
