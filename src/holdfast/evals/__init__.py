"""Evals: fixed sets of held-out episodes, and what counts as an outcome. Their config is `holdfast.config.Eval`."""
