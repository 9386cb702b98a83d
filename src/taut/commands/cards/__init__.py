"""Replication cards: published numbers, the commands that give ours, and whether they agree."""
