"""One file or folder per command: from a checked config to what is printed and written."""
