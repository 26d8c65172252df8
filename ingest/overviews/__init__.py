"""What low zooms are drawn from, kept as items come and go."""
