"""What a study came to, as curves, tables and one HTML page."""
