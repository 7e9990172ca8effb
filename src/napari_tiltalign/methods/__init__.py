"""Alignment methods: pure algorithms that read no file, print nothing and know no GUI."""
