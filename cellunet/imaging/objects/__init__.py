"""Objects and what is measured of them, while labels pass by in bands of rows."""
