"""What ``import taut`` offers: runs read back, evaluated and used, and estimators that need no files."""
