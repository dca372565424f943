"""From scored records to what can be said: intervals (bootstrap), rates and leads (leads), words (verdict)."""
