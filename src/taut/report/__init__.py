"""What is said about finished runs; reads results, never models."""
