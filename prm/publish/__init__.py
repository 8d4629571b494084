"""Publish a trained run as a folder that describes itself."""
