"""Reports about finished runs; reads results, never models."""
