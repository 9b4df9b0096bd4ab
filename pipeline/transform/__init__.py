"""The columns: pure stages, frame in and frame out."""
