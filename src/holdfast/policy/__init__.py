"""The model under test: where it comes from, how a chat is rendered for it, and sampling from it."""
