"""The files beside a label image: outlines, tables, pictures, stacks."""
