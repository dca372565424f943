"""Does alignment survive reinforcement learning? `holdfast --help`, or `holdfast.study.run` for the main path."""
