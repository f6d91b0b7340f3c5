"""Suggest which crops to annotate next."""
