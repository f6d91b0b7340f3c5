"""The command line: the only floor that imports typer or rich."""
