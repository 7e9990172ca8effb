"""Arrays in, arrays out; the only code that touches a GPU."""
