"""Looking at environments: the catalogue, how an episode opens, and the model's seat."""
