"""Generators: models that write texts, behind the one `Generator` protocol."""
