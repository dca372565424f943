"""What changes a checkpoint: supervised installs (`install.py`) and reinforcement learning (`grpo.py`, `ppo.py`)."""
