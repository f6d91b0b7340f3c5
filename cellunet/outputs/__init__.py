"""Files beside a label image: tables, outlines, pictures, the report."""
