"""Evals: what a checkpoint is measured by. Each kind in `holdfast.config.evals` is run by the module it names."""
