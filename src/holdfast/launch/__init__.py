"""From a command line to running arms."""
