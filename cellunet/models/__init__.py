"""The models that ship with cellunet."""
