"""Does alignment survive reinforcement learning? `holdfast --help`, or `holdfast.study` for the main path."""
