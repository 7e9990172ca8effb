"""Other people's programs behind the same protocol as our own methods: IMOD and AreTomo."""
