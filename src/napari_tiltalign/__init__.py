"""Tilt-series alignment for cryo-electron tomography."""
