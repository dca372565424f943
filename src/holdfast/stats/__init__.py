"""From scored records to what can be said: counts, intervals, rates and leads, gates, and words (verdict)."""
