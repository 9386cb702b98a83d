"""Readers of files: arrays, tables, images, downloads."""
