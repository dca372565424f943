"""Honeypots: episodes in which doing wrong would pay."""
